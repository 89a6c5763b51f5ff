"""What a trained model leaves in its run folder: predictions, errors, a parity plot and the model."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from tltool import plots
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.overlap import crystal_index
from tltool.data.overlap.crystal_index import Matches
from tltool.data.record import formula
from tltool.elements import symbols
from tltool.evaluation import overlap_audit, source_crystals
from tltool.evaluation.metrics import CLASS_METRICS, metrics
from tltool.evaluation.overlap_audit import Auditor
from tltool.model.property_model import PropertyModel
from tltool.model.scaler import Scaler
from tltool.quantities import quantity
from tltool.run_folder.console import show
from tltool.run_folder.run import Run
from tltool.training import row_functionals
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint

_LARGE = 100_000


def remember(
    model: PropertyModel,
    data: Batches,
    dataset: Dataset,
    run: Run,
    stage: str,
    auditor: Auditor,
    mode: str | None = None,
) -> None:
    """Write into the model what it has now been trained on: elements, where the labels came from, which crystals."""
    seen = set(model.spec.get("elements", ())) | data.elements("train")
    kept = ("name", "adapter", "address", "licence", "citation", "functional")
    origin: dict[str, Any] = {k: v for k, v in dataset.store.attributes.items() if k in kept}
    origin |= {
        "stage": stage,
        "quantities": list(data.quantities),
        "n_train": len(data.split["train"]),
        "run": run.folder.name,
    }
    origin |= {"mode": mode} if mode else {}
    origin |= {"chosen": model.spec["auto"]["chosen"]} if "auto" in model.spec else {}
    if dataset.folder:
        origin["prepared"] = str(dataset.folder.resolve())
    if auditor.action == "none" or (model.spec.get("provenance") and not model.seen):
        # An index of the last step alone would call crystals of the source unseen.
        model.seen = {}
    else:
        rows = np.concatenate([data.split[part].cpu().numpy() for part in ("train", "val")])
        before = [crystal_index.from_arrays(model.seen, "the source model")] if model.seen else []
        model.seen = crystal_index.arrays(
            crystal_index.merged([*before, overlap_audit.index(dataset, rows, auditor.workers, run.say)])
        )
    model.spec["elements"] = sorted(int(z) for z in seen)
    if model.spec.get("functionals"):
        model.spec["functional"] = row_functionals.last(data, model.spec["functionals"])
    model.spec["quantities"] = {name: quantity(name).unit for name in data.quantities}
    model.spec["logarithmic"] = [name for name, s in model.scalers.items() if isinstance(s, Scaler) and s.logarithmic]
    model.spec["provenance"] = [*model.spec.get("provenance", ()), origin]


def evaluate(
    run: Run,
    model: PropertyModel,
    data: Batches,
    dataset: Dataset,
    parts: Sequence[str],
    facts: Mapping[str, Any],
    auditor: Auditor,
) -> dict[str, Any]:
    """Predict ``parts``, write predictions, parity plots and ``metrics.json``; return what stands in the last.

    Errors on the test rows are also given for those that the model, or its source, was trained on (``seen``), those
    that it was not (``unseen``) and those of which that is not known (``unknown``), unless all are of one kind; of
    several data sets in one, for each functional (``functionals``).

    Unseen elements are those in none of the crystals that the model or its source was trained on. Where labels are
    differences, predictions and errors are of the sum, and ``MAE_base`` is the error of the base alone.
    """
    ids = dataset.store.ids
    known = set(model.spec["elements"])
    rows: list[dict[str, Any]] = []
    found: dict[str, Any] = {name: {"unit": quantity(name).unit} for name in data.quantities}
    full = data.labels if data.base is None else data.labels + data.base
    means = np.nanmean(full[data.split["train"]].cpu().double().numpy(), axis=0) if len(data.split["train"]) else None
    matches = _matches(model, data, dataset, auditor, run)
    kinds = overlap_audit.words(matches, "") if matches else []
    how = dict(zip(data.split["test"].tolist(), kinds, strict=True)) if matches else {}
    groups = row_functionals.groups(dataset.store, data.split["test"].cpu().numpy())
    drawn: dict[str, list[tuple[str, Any, Any]]] = {name: [] for name in data.quantities}
    for part in parts:
        predicted = predict(model, data, part)
        crystals = [dataset.store.crystal(int(row)) for row in data.split[part]]
        label = full[data.split[part]].cpu().double().numpy()
        low = None if data.base is None else data.base[data.split[part]].cpu().double().numpy()
        predicted = predicted if low is None else predicted + low
        for k, name in enumerate(data.quantities):
            mean = float(means[k]) if means is not None else float(np.nanmean(label[:, k]))
            found[name][part] = metrics(name, label[:, k], predicted[:, k], mean)
            if low is not None:
                found[name][part]["MAE_base"] = metrics(name, label[:, k], low[:, k], mean)["MAE"]
            drawn[name].append((part, label[:, k], predicted[:, k]))
            if part == "test" and matches:
                for kind, some in overlap_audit.kinds(matches).items():
                    found[name][kind] = metrics(name, label[some, k], predicted[some, k], mean)
            if part == "test" and groups:
                found[name]["functionals"] = {
                    word: metrics(name, label[some, k], predicted[some, k], mean) for word, some in groups.items()
                }
        for row, crystal, y, p in zip(data.split[part].tolist(), crystals, label, predicted, strict=True):
            elements = set(crystal.numbers.tolist())
            words = {
                "id": ids[row],
                "split": part,
                "formula": formula(crystal.numbers, crystal.amounts),
                "elements": symbols(elements),
                "unseen_elements": symbols(elements - known),
                "seen": how.get(row, "") if part == "test" else None,
            }
            rows += [
                words | {"quantity": q, "label": y[k], "prediction": p[k], "unit": found[q]["unit"]}
                for k, q in enumerate(data.quantities)
            ]
    run.write_predictions(rows)
    for name, series in drawn.items():
        file = "parity.png" if len(drawn) == 1 else f"parity-{name}.png"
        marks = np.concatenate([np.full(len(y), part) for part, y, _ in series])
        plots.parity(
            run.folder / file,
            np.concatenate([y for _, y, _ in series]),
            np.concatenate([p for _, _, p in series]),
            marks.tolist(),
            found[name]["unit"],
            name,
        )
    citations = list(dict.fromkeys(o["citation"] for o in model.spec["provenance"] if "citation" in o))
    summary = {**facts, "quantities": found, "citations": citations}
    if matches:
        summary["overlap"] = overlap_audit.counted(matches)
        overlap_audit.write(run, matches, dataset.store, data.split["test"].cpu().numpy())
    run.write_json("metrics.json", summary)
    return summary


def _matches(model: PropertyModel, data: Batches, dataset: Dataset, auditor: Auditor, run: Run) -> Matches | None:
    """Return which test rows the model was trained on; None without an index, or where nobody asks."""
    if auditor.action == "none" or not model.seen:
        return None
    seen = crystal_index.from_arrays(model.seen, "the model")
    trained = np.concatenate([data.split[part].cpu().numpy() for part in ("train", "val")])
    sources = source_crystals.at_hand(model.spec, dataset, trained)
    return overlap_audit.audit(seen, dataset, data.split["test"].cpu().numpy(), auditor.workers, sources, run.say)


def named(description: Mapping[str, Any]) -> dict[str, str]:
    """Return what a model remembers of the data set whose labels it adds to."""
    return {key: str(description[key]) for key in ("name", "functional") if description.get(key)}


def parts_of(data: Batches) -> list[str]:
    """Return the parts to predict: all of a small data set, without the training rows of a large one."""
    return [part for part in data if part != "train" or len(data.split["train"]) <= _LARGE]


def keep(run: Run, model: PropertyModel) -> None:
    """Save the model into the run folder."""
    checkpoint.save(run.folder / "model", model)


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds passed."""
        return time.perf_counter() - self._began


def show_errors(summary: Mapping[str, Any], part: str) -> None:
    """Print the errors on ``part`` that ``metrics.json`` holds, each with its unit."""
    table = Table(title=" ".join(filter(None, [summary["stage"], summary.get("mode"), summary["target"]])))
    classes = CLASS_METRICS if any(quantity(name).is_class for name in summary["quantities"]) else ()
    metrics = ("MAE", "RMSE", "R2", "MAD", "MAE/MAD", *classes)
    for column in ("quantity", "unit", f"n {part}", *metrics):
        table.add_column(column, justify="left" if column in ("quantity", "unit") else "right")
    for name, found in summary["quantities"].items():
        errors = found[part]
        numbers = [f"{errors[k]:.4g}" if k in errors else "" for k in metrics]
        table.add_row(name, found["unit"], str(errors["n"]), *numbers)
        plain = quantity(name).log10_of
        some_rows = {kind: found[kind] for kind in ("seen", "unseen", "unknown") if kind in found} | found.get(
            "functionals", {}
        )
        for kind, some in some_rows.items():
            if part == "test":
                values = [f"{some[k]:.4g}" if k in some else "" for k in ("MAE", "RMSE", "R2", "MAD", "MAE/MAD")]
                table.add_row(f"  {kind}", found["unit"], str(some["n"]), *values)
        if plain and f"MAE_{plain}" in errors:
            table.add_row(plain, quantity(plain).unit, str(errors["n"]), f"{errors[f'MAE_{plain}']:.4g}")
    show(table)
