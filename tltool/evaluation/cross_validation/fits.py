"""Train on every fold of a cross-validated transfer, and keep what is finished.

Each finished fold is a file of plain text, ``folds/MODE-REPEAT-FOLD.json``, with a digest of everything that decides
its numbers. A run that goes on in the folder of another one takes the folds whose digest is the same.
"""

import hashlib
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.split_folds import Fold, Folds
from tltool.errors import NumericError
from tltool.evaluation import digests, uncertainty
from tltool.evaluation.cross_validation.outcome import Outcome, error, fold_data
from tltool.metrics import judged
from tltool.model.property_model import PropertyModel
from tltool.run_folder.run import Run
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
    except NumericError as cause:
        raise NumericError(f"{name}, fold {fold.number + 1} of repeat {fold.repeat + 1}: {cause}") from cause
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
        of_folds = [one for outcome in repeat if np.isfinite(one := error(study.data, outcome, name))]
        if of_folds:
            words[judged(about).error] = None
            errors.append(f"{name} {np.mean(of_folds):.4g}{'' if about.is_class else about.in_unit}")
    left = f", about {seconds / n * (of - n):.0f} s left" if n < of else ""
    folds = f"{len(repeat)} fold{'s' if len(repeat) > 1 else ''}"
    run.say(
        f"{repeat[0].mode}, repeat {repeat[0].fold.repeat + 1}: {' and '.join(words) or 'MAE'} of {folds} "
        f"{', '.join(errors)} ({n} of {of}{left})"
    )
