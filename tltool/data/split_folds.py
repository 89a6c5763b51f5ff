"""Folds of cross-validation: every labelled row is tested exactly once in each repeat, by a model that never saw it.

Sizes: n records, g groups of records that stay together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.data.record import Floats, Ints
from tltool.data.splits import Split, crystals, group_names, strata
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError

COMPARE = ("scratch", "none")
_CLASSES = 10  # whole numbers up to so many are taken for classes
GROUPS = {"formula": "composition", "composition": "composition", "prototype": "prototype"}
"""What ``group`` may be for every data set, and how ``splits.group_names`` calls it."""


class Fold(NamedTuple):
    """One model of a cross-validation: which ``repeat`` and which ``number`` within it, both from 0, and its rows."""

    repeat: int
    number: int
    split: Split


class Folds(NamedTuple):
    """The folds of all repeats; ``whole`` has all rows for training, for the model that is kept.

    ``compare`` names the mode that is trained on the same folds: scratch or none.
    """

    parts: list[Fold]
    whole: Split
    compare: str

    def without(self, rows: Ints) -> "Folds":
        """Return the folds without tests of ``rows``, which still train."""
        parts = [part._replace(split=part.split._replace(test=_less(part.split.test, rows))) for part in self.parts]
        if not any(len(part.split.test) for part in parts):
            raise DataError("No crystal is left to test; use overlap=report.")
        return self._replace(parts=[part for part in parts if len(part.split.test)])


def cross_validation(
    records: Store,
    labelled: Floats,
    /,
    *,
    folds: int | None,
    repeats: int,
    group: str | None,
    seed: int,
    val: float,
    compare: str,
) -> Folds:
    """Cut the labelled rows into ``folds``, ``repeats`` times by other permutations; null leaves one row out at a time.

    ``labelled`` (n,) contains the labels; rows with NaN are left out. Rows of one ``group`` are in one fold: of one
    formula, of one prototype, or with one value of a tag of the data set. Rows of one crystal always are. Every fold
    has its share of each class of the ``strata``, or of labels that are few whole numbers. ``val`` is the fraction of
    the training rows of a fold that validate. Raise ConfigError and DataError for what cannot be cut.
    """
    if repeats < 1 or (folds is not None and folds < 2):
        raise ConfigError(f"split: folds={folds} must be 2 or more and repeats={repeats} 1 or more.")
    if not 0 <= val < 1:
        raise ConfigError(f"split.val={val} must be a fraction below 1; 0 trains on all rows outside the fold.")
    if compare not in COMPARE:
        raise ConfigError(f"split.compare={compare!r} is not known; use {' or '.join(COMPARE)}.")
    if folds is None and repeats > 1:
        raise ConfigError("split=loo leaves each row out once, whatever the order; use split.repeats=1 or split=cv.")
    rows = np.flatnonzero(np.isfinite(labelled))
    unit = _units(records, rows, group)
    n = int(unit.max(initial=-1)) + 1
    if n < (folds or 2):
        word = f"groups ({group})" if group else "labelled rows"
        raise DataError(f"split: {n} {word} cannot be cut into {folds or 2} folds; use fewer folds or add rows.")
    parts = []
    for repeat in range(repeats):
        order = np.random.default_rng([seed, repeat]).permutation(n)
        classes = strata(records, rows, unit, n)
        classes = _classes(labelled[rows], unit, n) if classes is None else classes
        fold_of = dealt(order, np.bincount(unit, minlength=n), classes, folds or n)
        place = np.empty(n, dtype=np.int64)
        place[order] = np.arange(n)
        for number in range(folds or n):
            tested = fold_of[unit] == number
            parts.append(Fold(repeat, number, _split(rows, place[unit], tested, val)))
    place = np.random.default_rng([seed, 0]).permutation(n)[unit]
    return Folds(parts, _split(rows, place, np.zeros(len(rows), dtype=bool), val), compare)


def dealt(order: Ints, sizes: Ints, classes: Ints, folds: int) -> Ints:
    """Return (g,): the fold of each group, so that all folds have nearly as many rows, of each class as well.

    Groups come in ``order`` (g,), class after class; each goes to the fold with the fewest rows so far. ``sizes`` (g,)
    are their rows, ``classes`` (g,) their classes.
    """
    found, filled = np.empty(len(order), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for group in order[np.argsort(classes[order], kind="stable")]:
        found[group] = np.argmin(filled)
        filled[found[group]] += sizes[group]
    return found


def _less(rows: Ints, without: Ints) -> Ints:
    return rows[~np.isin(rows, without)]


def _split(rows: Ints, place: Ints, tested: npt.NDArray[np.bool_], val: float) -> Split:
    """Return the split that tests the ``tested`` of ``rows``; those that validate are whole groups, by ``place``."""
    learnt, places = rows[~tested], place[~tested]
    last = np.sort(places)[round(val * len(places)) - 1] if round(val * len(places)) else -1
    return Split(learnt[places > last], learnt[places <= last], rows[tested])


def _units(records: Store, rows: Ints, group: str | None) -> Ints:
    """Return (r,): the number of the group of each of ``rows``."""
    crystal = crystals(records, rows)
    if group is None:
        return crystal
    words: Sequence[str]
    if group in GROUPS:
        words = group_names(records, rows, GROUPS[group])
    elif group in records.tags:
        words = [records.tags[group][int(row)] for row in rows]
    else:
        known = ", ".join([*GROUPS, *sorted(records.tags)])
        raise ConfigError(f"split.group={group!r} is no group of these data; use null or one of: {known}.")
    # Rows of one crystal are in the group of the first; a row without a word is a group of its own.
    first: dict[int, str] = {}
    names = [first.setdefault(one, word or f"\0{one}") for one, word in zip(crystal.tolist(), words, strict=True)]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _classes(labels: Floats, unit: Ints, n: int) -> Ints:
    """Return (g,): the class of each group, that of its first row; all 0 where the labels (r,) are no classes."""
    values = np.unique(labels)
    if len(values) > _CLASSES or (values != np.round(values)).any():
        return np.zeros(n, dtype=np.int64)
    found = np.zeros(n, dtype=np.int64)
    found[unit[::-1]] = np.searchsorted(values, labels[::-1])
    return found
