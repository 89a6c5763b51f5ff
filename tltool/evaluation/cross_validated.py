"""A cross-validated transfer: train on every fold, keep what is finished, and sum up the out-of-fold predictions.

Each finished fold is a file of plain text, ``folds/MODE-REPEAT-FOLD.json``, with a digest of everything that decides
its numbers. A run that goes on in the folder of another one takes the folds whose digest is the same. Sizes: t test
rows of a fold, v columns of predictions (``Batches.columns``).
"""

import hashlib
import json
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.record import Floats, Ints
from tltool.data.split_folds import Fold, Folds
from tltool.data.splits import Split
from tltool.errors import NumericError
from tltool.evaluation import class_labels, conformal, digests, results, uncertainty
from tltool.evaluation.results import Predicted, Subsets
from tltool.evaluation.uncertainty import Bounds
from tltool.metrics import brier, judged
from tltool.model.property_model import PropertyModel
from tltool.quantities import Quantity
from tltool.reporting import fold_verdict
from tltool.reporting.fold_verdict import FoldVerdict
from tltool.run_folder.run import Run
from tltool.training import row_functionals
from tltool.training.fit import Fit, predict
from tltool.training.saved_state import resume

Mode = Callable[[PropertyModel, Batches, Fit], PropertyModel]
FOLDER = "folds"
_SCHEMA = 2
_SILENCE = 15.0  # seconds after which a line is printed within a repeat


class Study(NamedTuple):
    """What all folds share: the source, the whole data, the fit, and what decides their numbers, as JSON can hold it.

    ``modes`` are the modes by name, the one that is asked for first; ``facts`` is digested together with the rows.
    """

    source: PropertyModel
    data: Batches
    dataset: Dataset
    fit: Fit
    modes: Mapping[str, Mode]
    facts: Mapping[str, Any]


class Outcome(NamedTuple):
    """What a mode predicts for the test rows of a ``fold``: (t, v) in the unit of each quantity, without a base.

    ``scale`` (t, v) is the standard deviation that the model gives (``uncertainty.scale_of``); rows are ``far`` (t,)
    from the training rows of the fold.
    """

    mode: str
    fold: Fold
    prediction: Floats
    scale: Floats
    far: npt.NDArray[np.bool_]
    seconds: float
    chosen: str | None = None


def run_folds(run: Run, study: Study, folds: Folds) -> list[Outcome]:
    """Return the outcome of every mode on every fold, in that order; those that the run folder holds are not repeated.

    Raise NumericError, which names the fold, if one cannot be trained.
    """
    wanted = [(name, fold) for name in study.modes for fold in folds.parts]
    digest = {(name, fold[:2]): _digest(study, name, fold) for name, fold in wanted}
    found = {}
    for name, fold in wanted:
        if kept := _kept(run.folder, name, fold, digest[name, fold[:2]], study.data):
            found[name, fold[:2]] = kept
    left = [(name, fold) for name, fold in wanted if (name, fold[:2]) not in found]
    if found:
        run.say(f"{len(found)} of {len(wanted)} fits are there already, of an earlier run with the same data and keys.")
    (run.folder / FOLDER).mkdir(exist_ok=True)
    tasks = [partial(_work, run.folder, study, name, fold, digest[name, fold[:2]]) for name, fold in left]
    began = told = time.perf_counter()
    for n, (k, outcome) in enumerate(run.several(tasks), 1):
        found[left[k][0], left[k][1][:2]] = outcome
        repeat = [found.get((outcome.mode, fold[:2])) for fold in folds.parts if fold.repeat == outcome.fold.repeat]
        now = time.perf_counter()
        if None not in repeat or now - told > _SILENCE:
            told = now
            _tell(run, study, [one for one in repeat if one], n, len(left), now - began)
    return [found[name, fold[:2]] for name, fold in wanted]


def fold_data(data: Batches, split: Split) -> Batches:
    """Return ``data`` with the rows of ``split`` in its parts."""
    return replace(data, split={name: torch.from_numpy(rows).to(data.labels.device) for name, rows in split.items()})


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
    other = {outcome.fold[:2]: outcome for outcome in outcomes if outcome.mode != asked}
    predicted = [_predicted(study.data, outcome) for outcome in own]
    known = set(study.source.spec.get("elements", ())) if asked != "scratch" else set()
    rows = []
    columns = [(study.data.known[name], at) for name, at in study.data.columns.items()]
    intervals = _intervals(model, study.data, own, coverage) if coverage and model.uncertainty else [None] * len(own)
    for one, outcome, bounds in zip(predicted, own, intervals, strict=True):
        there = known | fold_data(study.data, outcome.fold.split).elements("train")
        scratch = _predicted(study.data, other[outcome.fold[:2]]).prediction if other else None
        given = results.table_rows(one, study.data, study.dataset, there, seen, bounds, coverage)
        rows += [row | extra for row, extra in zip(given, _beside(outcome, scratch, columns), strict=True)]
    run.write_predictions(rows)
    every = _joined(predicted)
    results.plot(run, [every], study.data)
    whole = fold_data(study.data, folds.whole)
    repeats = max(fold.repeat for fold in folds.parts) + 1
    found = results.errors_of(whole, [every], _subsets(study.dataset, every.rows, seen))
    for name, at in study.data.columns.items():
        found[name]["test"]["n"] = len(
            {r for r, y in zip(every.rows.tolist(), every.label[:, at.start], strict=True) if y == y}
        )
        found[name] |= _of_folds(study.data, name, own, other)
        learnt, errors = study.data.known[name], found[name]["folds"]
        key = judged(learnt).error
        scratch_errors = [one[f"{key}_scratch"] for one in errors] if other else None
        compared = FoldVerdict(**found[name]["against_scratch"]) if other else None
        run.say(fold_verdict.told(learnt, [one[key] for one in errors], scratch_errors, compared))
    for name, told_ in _measured(model, intervals, every, coverage).items():
        found[name]["interval"] = told_
        run.say(results.interval_told(study.data.known[name], told_))
    about = {"folds": max(fold.number for fold in folds.parts) + 1, "repeats": repeats, "compare": folds.compare}
    chosen = {f"{o.fold.repeat}-{o.fold.number}": o.chosen for o in own if o.chosen}
    about |= {"chosen": chosen} if chosen else {}
    summary = {**facts, "cross_validation": about, "quantities": found, "citations": results.citations_of(model)}
    run.write_json("metrics.json", summary)
    return summary


def remembered(model: PropertyModel, study: Study, outcomes: Sequence[Outcome]) -> uncertainty.Arrays:
    """Return what the ``model`` of all rows is to carry: the out-of-fold scores of its mode."""
    asked = next(iter(study.modes))
    own = [outcome for outcome in outcomes if outcome.mode == asked]
    found = np.concatenate([_scores(model, study.data, outcome) for outcome in own])
    rows = len(np.unique(np.concatenate([outcome.fold.split.test for outcome in own])))
    return uncertainty.remembered(model, study.data, found, rows, uncertainty.OUT_OF_FOLD)


def told(folder: Path, message: str, stage: str, words: Sequence[str]) -> str:
    """Return the ``message`` about an interruption with the command that starts the run again.

    Where folds are finished it goes on with those that are left. ``words`` are those of the command line.
    """
    if not any((folder / FOLDER).glob("*.json")):
        return f"{message}; this starts again: {shlex.join(['tltool', stage, *words])}"
    others = [word for word in words if not word.startswith("hydra.run.dir=")]
    again = shlex.join(["tltool", stage, *others, f"hydra.run.dir={resume.quoted(str(folder))}"])
    return f"{message}; this goes on with the folds that are left: {again}"


def _digest(study: Study, name: str, fold: Fold) -> str:
    labels = digests.labels_of(study.dataset.store, study.data)
    if study.data.base is not None:
        labels = np.concatenate([labels, study.data.base.cpu().double().numpy()], axis=1)
    rows = [digests.rows_digest(study.dataset.store, labels, part) for _, part in fold.split.items()]
    mode = study.facts["mode"] if name == next(iter(study.modes)) else name
    text = json.dumps([_SCHEMA, {**study.facts, "mode": mode}, rows], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _file(folder: Path, name: str, fold: Fold) -> Path:
    return folder / FOLDER / f"{name}-{fold.repeat}-{fold.number}.json"


def _kept(folder: Path, name: str, fold: Fold, digest: str, data: Batches) -> Outcome | None:
    """Return the outcome in a file of an earlier run, None if there is none with this ``digest``."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(_file(folder, name, fold).read_text(encoding="utf-8"))
        shape = len(fold.split.test), data.labels.shape[1]
        tables = [np.array(kept[key], dtype=np.float64).reshape(shape) for key in ("prediction", "scale")]
        far = np.array(kept["far"], dtype=bool).reshape(shape[0])
        if kept["digest"] == digest:
            return Outcome(name, fold, tables[0], tables[1], far, float(kept["seconds"]), kept["chosen"])
    return None


def _work(folder: Path, study: Study, name: str, fold: Fold, digest: str, ask: Any) -> Outcome:
    """Train one mode on one fold, and write the outcome to its file."""
    began = time.perf_counter()
    data = fold_data(study.data, fold.split)
    fit = replace(study.fit, log=lambda event: None, together=ask)
    torch.manual_seed(fit.seed)
    try:
        model = fit.backend.prepare(study.modes[name](study.source, data, fit))
    except NumericError as error:
        raise NumericError(f"{name}, fold {fold.number + 1} of repeat {fold.repeat + 1}: {error}") from error
    prediction = predict(model, data, "test")
    chosen = model.spec["auto"]["chosen"] if "auto" in model.spec else None
    scale, far = uncertainty.scale_of(model, data, "test"), uncertainty.far_of(model, data, "test")
    outcome = Outcome(name, fold, prediction, scale, far, time.perf_counter() - began, chosen)
    facts = {"digest": digest, "seconds": outcome.seconds, "chosen": chosen}
    facts |= {"prediction": prediction.tolist(), "scale": scale.tolist(), "far": far.tolist()}
    file = _file(folder, name, fold)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
    temporary.replace(file)
    return outcome


def _tell(run: Run, study: Study, repeat: Sequence[Outcome], n: int, of: int, seconds: float) -> None:
    """Say how good the finished fits of a repeat are on average, and how many of all fits are left."""
    errors = []
    words: dict[str, None] = {}
    for name in study.data.quantities:
        about = study.data.known[name]
        of_folds = [error for outcome in repeat if np.isfinite(error := _error(study.data, outcome, name))]
        if of_folds:
            words[judged(about).error] = None
            errors.append(f"{name} {np.mean(of_folds):.4g}{'' if about.is_class else about.in_unit}")
    left = f", about {seconds / n * (of - n):.0f} s left" if n < of else ""
    folds = f"{len(repeat)} fold{'s' if len(repeat) > 1 else ''}"
    run.say(
        f"{repeat[0].mode}, repeat {repeat[0].fold.repeat + 1}: {' and '.join(words) or 'MAE'} of {folds} "
        f"{', '.join(errors)} ({n} of {of}{left})"
    )


def _predicted(data: Batches, outcome: Outcome) -> Predicted:
    """Return the out-of-fold predictions of one fold with their labels, the base added to both."""
    rows = torch.from_numpy(outcome.fold.split.test).to(data.labels.device)
    label = results.full_labels(data)[rows].cpu().double().numpy()
    base = None if data.base is None else data.base[rows].cpu().double().numpy()
    whole = outcome.prediction if base is None else outcome.prediction + base
    return Predicted("test", outcome.fold.split.test, label, whole, base)


def _joined(predicted: Sequence[Predicted]) -> Predicted:
    base = None if predicted[0].base is None else np.concatenate([p.base for p in predicted if p.base is not None])
    parts = [np.concatenate([getattr(p, key) for p in predicted]) for key in ("rows", "label", "prediction")]
    return Predicted("test", parts[0], parts[1], parts[2], base)


def _beside(
    outcome: Outcome, scratch: Floats | None, columns: Sequence[tuple[Quantity, slice]]
) -> Iterator[dict[str, Any]]:
    """Yield what a row of ``predictions.csv`` of one fold has besides those of other runs."""
    own = {"repeat": outcome.fold.repeat, "fold": outcome.fold.number}
    for row in range(len(outcome.prediction)):
        for about, at in columns:
            value = None if scratch is None else scratch[row, at]
            word = (
                None if value is None else class_labels.told(about, value)["prediction"] if about.is_class else value[0]
            )
            yield own | ({} if word is None else {"scratch": word})


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
        one = _predicted(data, outcome)
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
    joined = Bounds(*(np.concatenate([getattr(one, key) for one in there]) for key in Bounds._fields))
    return uncertainty.measured(model, joined, every.label, coverage)


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
        line |= {key: _error(data, outcome, name)}
        lines.append(line | ({f"{key}_scratch": _error(data, other[fold[:2]], name)} if other else {}))
    mean, sd = fold_verdict.spread([line[key] for line in lines])
    found: dict[str, Any] = {"folds": lines, "spread": {"mean": mean, "sd": sd}}
    if other:
        ratio = float(np.mean([len(o.fold.split.test) / max(len(o.fold.split.train), 1) for o in own]))
        errors = [[line[side] for line in lines] for side in (key, f"{key}_scratch")]
        found["against_scratch"] = fold_verdict.verdict(errors[0], errors[1], ratio)._asdict()
    return found


def _error(data: Batches, outcome: Outcome, name: str) -> float:
    """Return the MAE of a quantity, or the Brier score of a class; NaN without a label."""
    one, at = _predicted(data, outcome), data.columns[name]
    label, prediction = one.label[:, at], one.prediction[:, at]
    errors = brier(prediction, label) if data.known[name].is_class else np.abs(prediction - label)[:, 0]
    known = np.isfinite(errors)
    return float(errors[known].mean()) if known.any() else float("nan")
