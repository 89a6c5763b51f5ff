"""Cross-validate the candidates of ``mode=auto`` one after another, within a limit of time.

A candidate is given up for three reasons: it is clearly behind another, it would take too long, or it cannot be
trained. Sizes: n training rows, v columns of predictions.
"""

import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tltool.data.batches.batches import Batches
from tltool.data.record import Floats
from tltool.errors import InapplicableError, NumericError, standing_at
from tltool.model.property_model import PropertyModel
from tltool.training.fit import Fit, predict
from tltool.transfer.steps import cross_validation

Mode = Callable[[PropertyModel, Batches, Fit], PropertyModel]
_ENOUGH = 10
"""Rows by which a candidate may be given up."""
_AT_LEAST = 0.3
"""Seconds of a fit by which the time of the rest is foreseen."""


class Tried(NamedTuple):
    """Errors (n,) and predictions (n, v) of a candidate on the training rows, NaN where not tried.

    ``why`` it was given up, or empty; ``seconds_kept`` is what its fit to all training rows is expected to take.
    """

    errors: Floats
    predictions: Floats
    folds: int
    seconds: float
    why: str
    seconds_kept: float = 0.0


class _TooSlowError(Exception):
    """A candidate would take more time than is left; the text says how much."""


class _Clock:
    """Foresees the time of a cross-validation; with so many seconds ``left`` (None: no limit) it ends what is slower.

    Its ``log`` takes the events of a fit. An epoch says how long all epochs of all folds will take; the first epoch
    does not count, since compilation and warm-up are in it. The event ``kept_takes_longer``
    says how many seconds more than this trial the same fit takes in the model that is kept.
    """

    def __init__(self, folds: int, left: float | None) -> None:
        self.folds, self.left, self.began = folds, left, time.perf_counter()
        self.done, self._fold_began, self._first_epoch, self._longer = 0, self.began, self.began, 0.0

    def log(self, event: Mapping[str, Any]) -> None:
        """Raise _TooSlowError if the epochs so far say that the candidate is too slow."""
        if event.get("event") == "kept_takes_longer":
            self._longer += event["seconds"]
        if event.get("event") == "epoch":
            now, past = time.perf_counter(), event["epoch"] - 1
            if past == 0:
                self._first_epoch = now
            spent = now - self._fold_began
            each = (now - self._first_epoch) / past if past else 0.0
            if spent > _AT_LEAST:
                self._check(self._fold_began - self.began, spent + each * (event["epochs"] - event["epoch"]))

    def end_fold(self) -> None:
        """Count a fold; raise _TooSlowError if the folds so far say that the candidate is too slow."""
        self._fold_began = time.perf_counter()
        self.done += 1
        self._check(self.seconds(), self.seconds() / self.done)

    def seconds(self) -> float:
        """Return the seconds since the beginning."""
        return time.perf_counter() - self.began

    def seconds_kept(self) -> float:
        """Return what the fit to all training rows is expected to take; zero before the first fold has ended."""
        return (self.seconds() + self._longer) / self.done if self.done else 0.0

    def _check(self, spent: float, of_fold: float) -> None:
        """Compare what a fit takes, ``of_fold`` seconds, with the time left after those ``spent`` on whole folds."""
        needed = spent + of_fold * (self.folds - self.done)
        kept = of_fold + self._longer / max(self.done, 1)
        if self.left is not None and needed + kept > self.left:
            raise _TooSlowError(f"{self.folds} folds need about {needed:.0f} s, and the fit to all rows {kept:.0f} s")


def compared(
    candidates: Mapping[str, Mode],
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    folds: int,
    limit: float | None,
    without: AbstractSet[str],
    say: Callable[[str], None],
) -> dict[str, Tried]:
    """Cross-validate each of ``candidates``, ``limit`` seconds in all (None: no limit), and say what came out.

    The limit holds for the cross-validation and for the fits on all training rows after it. The first candidate has no
    limit, so that there is a result. The first of those ``without`` the source is not given up for its error, so that
    there is one to compare with.
    """
    began = time.perf_counter()
    tried: dict[str, Tried] = {}
    for name, mode in candidates.items():
        whole = [t for t in tried.values() if not t.why]
        later = sum(t.seconds_kept for t in whole)
        left = None if limit is None or not whole else limit - (time.perf_counter() - began) - later
        needed = name in without and all(t.why for other, t in tried.items() if other in without)
        best = None if needed or not whole else min((t.errors for t in whole), key=lambda errors: float(errors.mean()))
        with standing_at(f"mode.candidates.{name}", "mode"):
            found = tried[name] = _try(mode, source, data, fit, folds, best, left)
        known = found.errors[np.isfinite(found.errors)]
        error = f"{known.mean():.3f}" if len(known) else "-"
        say(f"  {name}: {error} ({found.seconds:.1f} s)" + (f", given up: {found.why}" if found.why else ""))
    return tried


def _try(
    mode: Mode,
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    folds: int,
    best: Floats | None,
    left: float | None,
) -> Tried:
    """Cross-validate ``mode`` against the ``best`` errors so far, with so many seconds ``left``."""
    clock = _Clock(folds, left)
    # Alone: a fit that ends early must not end those of other runs of a sweep that would be trained with it.
    alone = replace(fit, log=clock.log, together=None, trial=True)
    errors = np.full(len(data.split["train"]), np.nan)
    predictions = np.full((len(errors), data.labels.shape[1]), np.nan)

    def result(why: str) -> Tried:
        return Tried(errors, predictions, clock.done, clock.seconds(), why, clock.seconds_kept())

    for fold, held in cross_validation.cut(data, fit.settings, folds, fit.seed):
        try:
            predictions[held.numpy()] = predict(mode(source, fold, alone), fold, "test")
        except (NumericError, InapplicableError, _TooSlowError) as error:
            return result(str(error))
        errors[held.numpy()] = cross_validation.row_errors(predictions, data)[held.numpy()]
        known = np.isfinite(errors)
        try:
            clock.end_fold()
        except _TooSlowError as error:
            if clock.done < folds:
                return result(str(error))
        few = clock.done < folds and known.sum() >= _ENOUGH
        if few and best is not None and cross_validation.hopeless(errors[known], best[known]):
            return result(f"clearly worse after {clock.done} fold" + "s" * (clock.done > 1))
    return result("" if np.isfinite(errors).all() else "predictions are not finite")
