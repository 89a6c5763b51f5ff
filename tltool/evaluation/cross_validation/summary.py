"""Sum up the out-of-fold predictions of a cross-validated transfer: errors, intervals, and the verdict on scratch.

Sizes: t test rows of a fold, v columns of predictions (``Batches.columns``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.record import Floats, Ints
from tltool.data.split_folds import Folds
from tltool.evaluation import class_labels, conformal, results, uncertainty
from tltool.evaluation.cross_validation.fits import Study
from tltool.evaluation.cross_validation.outcome import Outcome, error, fold_data, joined, predicted
from tltool.evaluation.results import Predicted, Subsets
from tltool.evaluation.uncertainty import Bounds
from tltool.metrics import judged
from tltool.model.property_model import PropertyModel
from tltool.quantities import Quantity
from tltool.reporting import fold_verdict
from tltool.reporting.fold_verdict import FoldVerdict
from tltool.run_folder.run import Run
from tltool.training import row_functionals


def summary_of(
    run: Run,
    study: Study,
    folds: Folds,
    outcomes: Sequence[Outcome],
    facts: Mapping[str, Any],
    model: PropertyModel,
    seen: Mapping[int, str],
    coverage: float | None,
) -> dict[str, Any]:
    """Write the out-of-fold predictions, a parity plot and ``metrics.json``; return what stands in the last.

    ``model`` is that of all rows, with its ``uncertainty``. ``seen`` says of rows how the source knows their crystals.
    The interval of a row is made of the out-of-fold scores of the other folds of its repeat.

    The errors under ``test`` are those of all repeats together; ``folds`` has the MAE of each fold, of a class the
    Brier score, ``spread`` its standard deviation, ``against_scratch`` the verdict.
    """
    asked = next(iter(study.modes))
    own = [outcome for outcome in outcomes if outcome.mode == asked]
    scratch = {outcome.fold[:2]: outcome for outcome in outcomes if outcome.mode != asked}
    intervals = _intervals(model, study.data, own, coverage) if coverage and model.uncertainty else [None] * len(own)
    known = set(study.source.spec.get("elements", ())) if asked != "scratch" else set()
    rows = []
    for outcome, bounds in zip(own, intervals, strict=True):
        there = known | fold_data(study.data, outcome.fold.split).elements("train")
        one = predicted(study.data, outcome)
        given = results.table_rows(one, study.data, study.dataset, there, seen, bounds, coverage)
        more = _more_columns(study.data, outcome, scratch.get(outcome.fold[:2]))
        rows += [row | extra for row, extra in zip(given, more, strict=True)]
    run.write_predictions(rows)
    every = joined([predicted(study.data, outcome) for outcome in own])
    results.plot(run, [every], study.data)
    found = _errors(study, folds, every, own, scratch, seen)
    for name in found:
        _tell(run, study.data.known[name], found[name])
    for name, measured in _measured(model, intervals, every, coverage).items():
        found[name]["interval"] = measured
        run.say(results.interval_told(study.data.known[name], measured))
    summary = {**facts, "cross_validation": _about(folds, own), "quantities": found}
    summary["citations"] = results.citations_of(model)
    run.write_json("metrics.json", summary)
    return summary


def _errors(
    study: Study,
    folds: Folds,
    every: Predicted,
    own: Sequence[Outcome],
    scratch: Mapping[tuple[int, int], Outcome],
    seen: Mapping[int, str],
) -> dict[str, dict[str, Any]]:
    """Return the errors of each quantity: of all repeats together, of each fold, and the verdict on scratch."""
    found = results.errors_of(fold_data(study.data, folds.whole), [every], _subsets(study.dataset, every.rows, seen))
    for name, at in study.data.columns.items():
        labels = every.label[:, at.start]
        found[name]["test"]["n"] = len(
            {row for row, label in zip(every.rows.tolist(), labels, strict=True) if label == label}
        )
        found[name] |= _of_folds(study.data, name, own, scratch)
    return found


def _tell(run: Run, about: Quantity, errors: Mapping[str, Any]) -> None:
    """Say how a quantity is predicted over the folds, beside scratch where that was trained too."""
    key, of_folds = judged(about).error, errors["folds"]
    of_scratch = [one[f"{key}_scratch"] for one in of_folds] if "against_scratch" in errors else None
    compared = FoldVerdict(**errors["against_scratch"]) if of_scratch else None
    run.say(fold_verdict.told(about, [one[key] for one in of_folds], of_scratch, compared))


def _about(folds: Folds, own: Sequence[Outcome]) -> dict[str, Any]:
    """Return how many folds and repeats there are, and what ``mode=auto`` chose in each."""
    chosen = {f"{outcome.fold.repeat}-{outcome.fold.number}": outcome.chosen for outcome in own if outcome.chosen}
    return {
        "folds": max(fold.number for fold in folds.parts) + 1,
        "repeats": max(fold.repeat for fold in folds.parts) + 1,
        "compare": folds.compare,
        **({"chosen": chosen} if chosen else {}),
    }


def remembered(model: PropertyModel, study: Study, outcomes: Sequence[Outcome]) -> uncertainty.Arrays:
    """Return what the ``model`` of all rows is to carry: the out-of-fold scores of its mode."""
    asked = next(iter(study.modes))
    own = [outcome for outcome in outcomes if outcome.mode == asked]
    found = np.concatenate([_scores(model, study.data, outcome) for outcome in own])
    rows = len(np.unique(np.concatenate([outcome.fold.split.test for outcome in own])))
    return uncertainty.remembered(model, study.data, found, rows, uncertainty.OUT_OF_FOLD)


def _more_columns(data: Batches, outcome: Outcome, scratch: Outcome | None) -> Iterator[dict[str, Any]]:
    """Yield what a row of ``predictions.csv`` has besides those of other runs: repeat, fold, and what scratch says."""
    own = {"repeat": outcome.fold.repeat, "fold": outcome.fold.number}
    values = None if scratch is None else predicted(data, scratch).prediction
    for row in range(len(outcome.prediction)):
        for name, at in data.columns.items():
            if values is None:
                yield own
            elif data.known[name].is_class:
                yield own | {"scratch": class_labels.told(data.known[name], values[row, at])["prediction"]}
            else:
                yield own | {"scratch": values[row, at][0]}


def _intervals(model: PropertyModel, data: Batches, own: Sequence[Outcome], coverage: float) -> list[Bounds | None]:
    """Return the intervals of the test rows of each outcome, from the scores of the other folds of its repeat."""
    every = [_scores(model, data, outcome) for outcome in own]
    found: list[Bounds | None] = []
    for outcome in own:
        others = [
            one
            for one, other in zip(every, own, strict=True)
            if other.fold.repeat == outcome.fold.repeat and other.fold.number != outcome.fold.number
        ]
        table = np.concatenate(others) if others else np.empty((0, data.labels.shape[1]))
        width = np.full(data.labels.shape[1], np.nan)
        for name, k in uncertainty.number_columns(model).items():
            if uncertainty.rows_of(model.uncertainty, name):
                width[k] = conformal.quantile(table[~np.isnan(table[:, k]), k], coverage)
        one = predicted(data, outcome)
        base = 0.0 if one.base is None else one.base
        lower, upper = uncertainty.around(model, outcome.prediction, outcome.scale, width)
        found.append(Bounds(lower + base, upper + base, outcome.far))
    return found


def _measured(
    model: PropertyModel, intervals: Sequence[Bounds | None], every: Predicted, coverage: float | None
) -> dict[str, dict[str, Any]]:
    """Return how many of the labels lie within their interval."""
    there = [one for one in intervals if one is not None]
    if not there or coverage is None:
        return {}
    together = Bounds(*(np.concatenate([getattr(one, key) for one in there]) for key in Bounds._fields))
    return uncertainty.measured(model, together, every.label, coverage)


def _scores(model: PropertyModel, data: Batches, outcome: Outcome) -> Floats:
    rows = torch.from_numpy(outcome.fold.split.test).to(data.labels.device)
    label = data.labels[rows].cpu().double().numpy()
    return uncertainty.scores(model, label, outcome.prediction, outcome.scale)


def _subsets(dataset: Dataset, rows: Ints, seen: Mapping[int, str]) -> Subsets:
    """Return which test rows are of a kind, as in ``results.evaluate``."""
    words = np.array([seen.get(row, "") for row in rows.tolist()])
    kinds = {"seen": (words != "") & (words != "unknown"), "unseen": words == "", "unknown": words == "unknown"}
    some = {kind: which for kind, which in kinds.items() if which.any()}
    return Subsets(some if len(some) > 1 else {}, row_functionals.groups(dataset.store, rows))


def _of_folds(
    data: Batches, name: str, own: Sequence[Outcome], other: Mapping[tuple[int, int], Outcome]
) -> dict[str, Any]:
    """Return the MAE of the quantity in each fold, or the Brier score of a class, its spread, and the verdict."""
    key = judged(data.known[name]).error
    lines = []
    for outcome in own:
        fold = outcome.fold
        line: dict[str, Any] = {"repeat": fold.repeat, "fold": fold.number, "n": len(fold.split.test)}
        line |= {key: error(data, outcome, name)}
        lines.append(line | ({f"{key}_scratch": error(data, other[fold[:2]], name)} if other else {}))
    mean, sd = fold_verdict.spread([line[key] for line in lines])
    found: dict[str, Any] = {"folds": lines, "spread": {"mean": mean, "sd": sd}}
    if other:
        ratio = float(np.mean([len(o.fold.split.test) / max(len(o.fold.split.train), 1) for o in own]))
        errors = [[line[side] for line in lines] for side in (key, f"{key}_scratch")]
        found["against_scratch"] = fold_verdict.verdict(errors[0], errors[1], ratio)._asdict()
    return found
