"""How long the cells of a study take: measured on those that are done, else by rates of a reference machine."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from tltool.study.plan import Kind

_ALL_ROWS = 1000
"""Rows that are taken for a cell of all rows, whose number is not known before."""


class Span(NamedTuple):
    """When a cell began and ended, in seconds."""

    began: float
    ended: float


class Estimate(NamedTuple):
    """Seconds for all cells that are left, and on what it rests: how many of them have a measured ``kind``."""

    seconds: float
    cells: int
    measured: int


def shares(spans: Sequence[Span]) -> list[float]:
    """Return the share of each cell in the time that passed: a second with k cells at work is 1/k s for each of them.

    The shares add up to the time in which at least one cell was at work, however many were trained at once.
    """
    ends = sorted({t for span in spans for t in span})
    found = [0.0] * len(spans)
    for begin, end in pairwise(ends):
        at_work = [k for k, span in enumerate(spans) if span.began <= begin and end <= span.ended]
        for k in at_work:
            found[k] += (end - begin) / len(at_work)
    return found


def estimate(
    left: Iterable[Kind], done: Mapping[Kind, Sequence[float]], guess: Callable[[Kind, int], float]
) -> Estimate:
    """Return how long the cells ``left`` take, given the shares (s) of cells that are ``done``, by kind.

    A kind that was not measured takes the time of the nearest size with the same target and mode, of the same split if
    there is one, in proportion to the rows if it has more. Without one, it takes that of another target, and without
    that the seconds of ``guess``, which is given the kind and its rows.
    """
    means = {kind: fmean(times) for kind, times in done.items() if times}
    total, cells, measured = 0.0, 0, 0
    for kind in left:
        of_mode = {other: mean for other, mean in means.items() if other.mode == kind.mode}
        known = {other: mean for other, mean in of_mode.items() if other.target == kind.target}
        cells, measured = cells + 1, measured + bool(known)
        total += _scaled(kind, known or of_mode) if of_mode else guess(kind, _rows(kind))
    return Estimate(total, cells, measured)


def told(seconds: float) -> str:
    """Return a time in words: 40 s, 3 min, 2.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _scaled(kind: Kind, known: Mapping[Kind, float]) -> float:
    rows = _rows(kind)
    nearest = min(known, key=lambda o: (o.split != kind.split, abs(_rows(o) - rows), o.source != kind.source))
    return known[nearest] * max(1.0, rows / _rows(nearest))


def _rows(kind: Kind) -> int:
    return _ALL_ROWS if kind.size is None else kind.size
