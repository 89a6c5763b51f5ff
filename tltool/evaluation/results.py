"""What a trained model leaves in its run folder: predictions, errors, parity plots and the model itself."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.table import Table
from torch import Tensor

from tltool import metrics, plots
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.overlap import crystal_index
from tltool.data.overlap.crystal_index import Matches
from tltool.data.record import Floats, Ints, formula
from tltool.elements import symbols
from tltool.evaluation import overlap_audit, source_crystals
from tltool.evaluation.overlap_audit import Auditor
from tltool.metrics import Metric
from tltool.model.property_model import PropertyModel
from tltool.quantities import quantity
from tltool.run_folder.console import show
from tltool.run_folder.run import Run
from tltool.training import row_functionals
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint

_LARGE = 100_000


class _Predicted(NamedTuple):
    """Labels and predictions (r, q) for the ``rows`` (r,) of one ``part``, each in the unit of its quantity.

    Of labels that are differences both are the sum, and ``base`` (r, q) is what was added; None otherwise.
    """

    part: str
    rows: Ints
    label: Floats
    prediction: Floats
    base: Floats | None


class _Subsets(NamedTuple):
    """Which rows (r,) of the test part are of a kind: by what the source was trained on, and by functional."""

    kinds: Mapping[str, npt.NDArray[np.bool_]]
    functionals: Mapping[str, npt.NDArray[np.bool_]]


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
    matches = _matches(model, data, dataset, auditor, run)
    test = data.split["test"].cpu().numpy()
    subsets = _Subsets(overlap_audit.kinds(matches) if matches else {}, row_functionals.groups(dataset.store, test))
    predicted = [_predicted(model, data, part) for part in parts]
    found = _errors(data, predicted, subsets)
    kinds = dict(zip(test.tolist(), overlap_audit.words(matches, ""), strict=True)) if matches else {}
    known = set(model.spec["elements"])
    run.write_predictions([row for one in predicted for row in _rows(one, data.quantities, dataset, known, kinds)])
    _plot(run, predicted, data.quantities)
    citations = list(dict.fromkeys(o["citation"] for o in model.spec["provenance"] if "citation" in o))
    summary = {**facts, "quantities": found, "citations": citations}
    if matches:
        summary["overlap"] = overlap_audit.counted(matches)
        overlap_audit.write(run, matches, dataset.store, test)
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


def _predicted(model: PropertyModel, data: Batches, part: str) -> _Predicted:
    """Predict one part; add the base where labels are differences."""
    prediction, rows = predict(model, data, part), data.split[part]
    label = _full_labels(data)[rows].cpu().double().numpy()
    base = None if data.base is None else data.base[rows].cpu().double().numpy()
    return _Predicted(part, rows.cpu().numpy(), label, prediction if base is None else prediction + base, base)


def _full_labels(data: Batches) -> Tensor:
    return data.labels if data.base is None else data.labels + data.base


def _errors(data: Batches, predicted: Sequence[_Predicted], subsets: _Subsets) -> dict[str, dict[str, Any]]:
    """Return for each quantity its unit and the metrics of every part, of the test part also those of its subsets."""
    found: dict[str, dict[str, Any]] = {name: {"unit": quantity(name).unit} for name in data.quantities}
    train = _full_labels(data)[data.split["train"]].cpu().double().numpy()
    means = np.nanmean(train, axis=0) if len(train) else None
    for one in predicted:
        for name, label, prediction, k in _columns(one, data.quantities):
            mean = float(np.nanmean(label)) if means is None else float(means[k])
            found[name][one.part] = metrics.measure(name, label, prediction, mean)
            if one.base is not None:
                found[name][one.part]["MAE_base"] = metrics.measure(name, label, one.base[:, k], mean)["MAE"]
            if one.part == "test":
                found[name] |= _of_kinds(subsets.kinds, name, label, prediction, mean)
                if subsets.functionals:
                    found[name]["functionals"] = _of_kinds(subsets.functionals, name, label, prediction, mean)
    return found


def _of_kinds(
    kinds: Mapping[str, npt.NDArray[np.bool_]], name: str, label: Floats, prediction: Floats, mean: float
) -> dict[str, dict[str, float]]:
    return {kind: metrics.measure(name, label[some], prediction[some], mean) for kind, some in kinds.items()}


def _columns(one: _Predicted, quantities: Sequence[str]) -> Iterator[tuple[str, Floats, Floats, int]]:
    """Yield each quantity with its labels (r,), predictions (r,) and column."""
    for k, name in enumerate(quantities):
        yield name, one.label[:, k], one.prediction[:, k], k


def _rows(
    one: _Predicted, quantities: Sequence[str], dataset: Dataset, known: set[int], seen: Mapping[int, str]
) -> Iterator[dict[str, Any]]:
    """Yield a row of ``predictions.csv`` for each crystal and quantity.

    ``known`` are the atomic numbers that the model was trained on, ``seen`` says of each test row how the model knows
    its crystal.
    """
    for row, label, prediction in zip(one.rows.tolist(), one.label, one.prediction, strict=True):
        crystal = dataset.store.crystal(row)
        elements = set(crystal.numbers.tolist())
        words = {
            "id": dataset.store.ids[row],
            "split": one.part,
            "formula": formula(crystal.numbers, crystal.amounts),
            "elements": symbols(elements),
            "unseen_elements": symbols(elements - known),
            "seen": seen.get(row, "") if one.part == "test" else None,
        }
        for name, y, p in zip(quantities, label, prediction, strict=True):
            yield words | {"quantity": name, "label": y, "prediction": p, "unit": quantity(name).unit}


def _plot(run: Run, predicted: Sequence[_Predicted], quantities: Sequence[str]) -> None:
    """Draw predictions against labels, a file for each quantity."""
    parts = [one.part for one in predicted for _ in one.rows]
    for k, name in enumerate(quantities):
        plots.parity(
            run.folder / ("parity.png" if len(quantities) == 1 else f"parity-{name}.png"),
            np.concatenate([one.label[:, k] for one in predicted]),
            np.concatenate([one.prediction[:, k] for one in predicted]),
            parts,
            quantity(name).unit,
            name,
        )


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
    heading = " ".join(filter(None, [summary["stage"], summary.get("mode"), summary["target"]]))
    about = [quantity(name) for name in summary["quantities"]]
    shown = [metric for metric in metrics.METRICS if any(metric.applies_to(one) for one in about)]
    table = Table(title=heading)
    for column in ("quantity", "unit", f"n {part}", *(metric.name for metric in shown)):
        table.add_column(column, justify="left" if column in ("quantity", "unit") else "right")
    for one in about:
        found = summary["quantities"][one.name]
        table.add_row(*_error_row(one.name, one.unit, found[part], shown))
        for kind, errors in _of_subsets(found).items() if part == "test" else ():
            table.add_row(*_error_row(f"  {kind}", one.unit, errors, shown))
        if one.log10_of and f"MAE_{one.log10_of}" in found[part]:
            plain = {"n": found[part]["n"], "MAE": found[part][f"MAE_{one.log10_of}"]}
            table.add_row(*_error_row(one.log10_of, quantity(one.log10_of).unit, plain, shown))
    show(table)


def _of_subsets(found: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Return the errors on the parts of the test rows of which a quantity has them apart."""
    subsets = {kind: found[kind] for kind in ("seen", "unseen", "unknown") if kind in found}
    return {**subsets, **found.get("functionals", {})}


def _error_row(name: str, unit: str, errors: Mapping[str, float], shown: Sequence[Metric]) -> list[str]:
    numbers = [format(errors[m.name], m.style or ".4g") if m.name in errors else "" for m in shown]
    return [name, unit, str(errors["n"]), *numbers]
