"""Write the results of a trained model to its run folder: predictions, errors, parity plots and the model itself."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tltool import class_plots, metrics, plots
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.overlap import crystal_index
from tltool.data.overlap.crystal_index import Matches
from tltool.data.record import Floats, Ints, formula
from tltool.elements import symbols
from tltool.evaluation import class_labels, overlap_audit, source_crystals, uncertainty
from tltool.evaluation.overlap_audit import Auditor
from tltool.evaluation.uncertainty import Bounds
from tltool.model.property_model import PropertyModel
from tltool.quantities import Quantities, Quantity, described
from tltool.run_folder.run import Run
from tltool.training import row_functionals
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint

_LARGE = 100_000


class Predicted(NamedTuple):
    """Labels and predictions (r, v) for the ``rows`` (r,) of one ``part``, each in the unit of its quantity.

    A class has the columns of ``Batches``. For labels that are differences, both include the base, and ``base`` (r, v)
    is the base; otherwise it is None.
    """

    part: str
    rows: Ints
    label: Floats
    prediction: Floats
    base: Floats | None


class Subsets(NamedTuple):
    """Subsets of the test rows (r,): seen, unseen or unknown to the source, and one per functional."""

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
    coverage: float | None = None,
) -> dict[str, Any]:
    """Predict ``parts``, write predictions, parity plots and ``metrics.json``; return the content of the last.

    Errors are also given for subsets of the test rows: those that the model or its source was trained on (``seen``),
    those that it was not trained on (``unseen``), and those for which this is not known (``unknown``), unless all rows
    are in one subset. For a union of data sets, errors are also given for each functional (``functionals``).

    A model with ``uncertainty`` gives intervals of ``coverage`` for the test rows, and whether these are far.

    Unseen elements are in none of the training crystals of the model or its source. If labels are differences,
    predictions and errors include the base, and ``MAE_base`` is the error of the base alone.
    """
    matches = _matches(model, data, dataset, auditor, run)
    test = data.split["test"].cpu().numpy()
    subsets = Subsets(overlap_audit.kinds(matches) if matches else {}, row_functionals.groups(dataset.store, test))
    predicted = [predicted_part(model, data, part) for part in parts]
    found = errors_of(data, predicted, subsets)
    kinds = dict(zip(test.tolist(), overlap_audit.words(matches, ""), strict=True)) if matches else {}
    known = set(model.spec["elements"])
    rows: list[dict[str, Any]] = []
    for one in predicted:
        bounds = _bounds(model, data, one, coverage) if coverage and one.part == "test" else None
        rows += table_rows(one, data, dataset, known, kinds, bounds, coverage)
        for name, told in uncertainty.measured(model, bounds, one.label, coverage or 0.0).items() if bounds else ():
            found[name]["interval"] = told
            run.say(interval_told(data.known[name], told))
    run.write_predictions(rows)
    plot(run, predicted, data)
    summary = {**facts, "quantities": found, "citations": citations_of(model)}
    if matches:
        summary["overlap"] = overlap_audit.counted(matches)
        overlap_audit.write(run, matches, dataset.store, test)
    run.write_json("metrics.json", summary)
    return summary


def _matches(model: PropertyModel, data: Batches, dataset: Dataset, auditor: Auditor, run: Run) -> Matches | None:
    """Return which test rows the model was trained on; None without an index, or without an audit."""
    if auditor.action == "none" or not model.seen:
        return None
    seen = crystal_index.from_arrays(model.seen, "the model")
    trained = np.concatenate([data.split[part].cpu().numpy() for part in ("train", "val")])
    sources = source_crystals.at_hand(model.spec, dataset, trained)
    return overlap_audit.audit(seen, dataset, data.split["test"].cpu().numpy(), auditor.workers, sources, run.say)


def predicted_part(model: PropertyModel, data: Batches, part: str) -> Predicted:
    """Predict one part; add the base if labels are differences."""
    prediction, rows = predict(model, data, part), data.split[part]
    label = full_labels(data)[rows].cpu().double().numpy()
    base = None if data.base is None else data.base[rows].cpu().double().numpy()
    return Predicted(part, rows.cpu().numpy(), label, prediction if base is None else prediction + base, base)


def _bounds(model: PropertyModel, data: Batches, one: Predicted, coverage: float) -> Bounds | None:
    """Return the intervals of the test rows, the base added; None for a model that has none."""
    if not model.uncertainty:
        return None
    base = 0.0 if one.base is None else one.base
    found = uncertainty.bounds_of(model, data, one.part, one.prediction - base, coverage)
    return found._replace(lower=found.lower + base, upper=found.upper + base)


def interval_told(about: Quantity, told: Mapping[str, Any]) -> str:
    """Return in words what intervals rest on, how wide they are, and how many labels they hold."""
    half = told["half_width"]
    return (
        f"{about.name}: intervals of {told['coverage']:.0%} from {told['rows']:,} {told['of']}, half of them narrower "
        f"than ± {half:.2g}{about.in_unit}; they hold {told['covered']:.0%} of {told['n']:,} test labels."
    )


def full_labels(data: Batches) -> Tensor:
    """Return the labels (n, q) in their units, with the base where they are differences."""
    return data.labels if data.base is None else data.labels + data.base


def errors_of(data: Batches, predicted: Sequence[Predicted], subsets: Subsets) -> dict[str, dict[str, Any]]:
    """Return the unit and the metrics of every part, and of the subsets of the test part, for each quantity."""
    found: dict[str, dict[str, Any]] = {name: _about(data.known, name) for name in data.quantities}
    train = full_labels(data)[data.split["train"]].cpu().double().numpy()
    means = np.nanmean(train, axis=0) if len(train) else None
    for one in predicted:
        for name, label, prediction, at in _columns(one, data):
            mean = np.nanmean(label, axis=0) if means is None else means[at]
            found[name][one.part] = metrics.measure(name, label, prediction, mean, data.known)
            if one.base is not None:
                found[name][one.part]["MAE_base"] = metrics.measure(name, label, one.base[:, at], mean, data.known)[
                    "MAE"
                ]
            if one.part == "test":
                found[name] |= _of_kinds(subsets.kinds, data.known, name, label, prediction, mean)
                if subsets.functionals:
                    found[name]["functionals"] = _of_kinds(
                        subsets.functionals, data.known, name, label, prediction, mean
                    )
    return found


def _of_kinds(
    kinds: Mapping[str, npt.NDArray[np.bool_]],
    about: Quantities,
    name: str,
    label: Floats,
    prediction: Floats,
    mean: Any,
) -> dict[str, dict[str, Any]]:
    return {kind: metrics.measure(name, label[some], prediction[some], mean, about) for kind, some in kinds.items()}


def _about(known: Quantities, name: str) -> dict[str, Any]:
    """Return what ``metrics.json`` says of a quantity beside its errors: its unit, and its definition."""
    return {"unit": known[name].unit, "definition": described(known[name])}


def _columns(one: Predicted, data: Batches) -> Iterator[tuple[str, Floats, Floats, int | slice]]:
    """Yield each quantity with its labels and predictions and where they are: (r,) of a number, (r, w) of a class."""
    for name, columns in data.columns.items():
        at = columns if data.known[name].is_class else columns.start
        yield name, one.label[:, at], one.prediction[:, at], at


def table_rows(
    one: Predicted,
    data: Batches,
    dataset: Dataset,
    known: set[int],
    seen: Mapping[int, str],
    bounds: Bounds | None = None,
    coverage: float | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a row of ``predictions.csv`` for each crystal and quantity, with the probabilities ``p_NAME`` of a class.

    ``known`` are the atomic numbers in the training data, ``seen`` says how each test crystal matched a training
    crystal, ``bounds`` are the intervals of ``coverage``.
    """
    for i, (row, label, prediction) in enumerate(zip(one.rows.tolist(), one.label, one.prediction, strict=True)):
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
        for name, at in data.columns.items():
            about, k = data.known[name], at.start
            own = words | {"quantity": name, "label": label[k], "prediction": prediction[k], "unit": about.unit}
            if about.is_class:
                own |= {"label": class_labels.word(about, label[at]), **class_labels.told(about, prediction[at])}
            if bounds is not None:
                own["far"] = bool(bounds.far[i])
                if np.isfinite(bounds.lower[i, k]):
                    own |= {"lower": bounds.lower[i, k], "upper": bounds.upper[i, k], "coverage": coverage}
            yield own


def plot(run: Run, predicted: Sequence[Predicted], data: Batches) -> None:
    """Draw a parity plot (predictions against labels) of each quantity, of a class its confusion and calibration."""
    parts = [one.part for one in predicted for _ in one.rows]
    for name, at in data.columns.items():
        about, end = data.known[name], ".png" if len(data.quantities) == 1 else f"-{name}.png"
        if about.is_class:
            _plot_class(run, [one for one in predicted if one.part == "test"], about, at, end)
            continue
        plots.parity(
            run.folder / f"parity{end}",
            np.concatenate([one.label[:, at.start] for one in predicted]),
            np.concatenate([one.prediction[:, at.start] for one in predicted]),
            parts,
            about.unit,
            name,
        )


def _plot_class(run: Run, tested: Sequence[Predicted], about: Quantity, at: slice, end: str) -> None:
    """Draw the confusion matrix and the calibration of the test rows, where any has a label."""
    label = np.concatenate([one.label[:, at] for one in tested]) if tested else np.empty((0, about.width))
    there = np.isfinite(label[:, 0])
    if there.any():
        prediction = np.concatenate([one.prediction[:, at] for one in tested])
        rows = metrics.Rows(metrics.whole(label[there]), metrics.whole(prediction[there]), None)
        table, tenths = metrics.confusion(rows), metrics.calibration(rows)
        class_plots.confusion(run.folder / f"confusion{end}", table, about.class_names, f"{about.name}, test rows")
        class_plots.calibration(run.folder / f"calibration{end}", tenths, f"{about.name}, test rows")


def parts_of(data: Batches) -> list[str]:
    """Return the parts to predict: all of a small data set, without the training rows of a large one."""
    return [part for part in data if part != "train" or len(data.split["train"]) <= _LARGE]


def citations_of(model: PropertyModel) -> list[str]:
    """Return the citations of the data that ``model`` was trained on."""
    return list(dict.fromkeys(o["citation"] for o in source_crystals.steps(model.spec) if "citation" in o))


def keep(run: Run, model: PropertyModel) -> None:
    """Save the model into the run folder, in place of that of an unfinished run which began there before."""
    shutil.rmtree(run.folder / "model", ignore_errors=True)
    checkpoint.save(run.folder / "model", model)


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """Return the seconds passed."""
        return time.perf_counter() - self._began
