"""Error against rows: power laws with intervals, and the rows at which the baseline is as good as a mode.

A curve is {rows: errors of its draws}. Draws are resampled together where two curves are compared, since draw k of both
has the same training rows.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.study.differences import Interval, expanded

Floats = npt.NDArray[np.float64]
Curve = Mapping[int, Sequence[float]]

_RESAMPLES = 5_000
NONE = Interval(math.nan, math.nan)


class Slope(NamedTuple):
    """Exponent b of error = a n^b, fitted to the logarithms of the mean errors; NaN with fewer than two sizes."""

    exponent: float
    interval: Interval


class Equal(NamedTuple):
    """Rows at which the baseline has the error that a mode has at ``at`` rows; infinite beyond its largest size.

    ``rows`` is 0 if the baseline is better already at its smallest size.
    """

    at: int
    rows: float
    interval: Interval


def slope(curve: Curve, seed: int = 0) -> Slope:
    """Return the slope of a curve in log-log, with its interval over draws."""
    if len(curve) < 2:
        return Slope(math.nan, NONE)
    [means] = _resampled([curve], seed)
    found = _slopes(curve, means)
    return Slope(float(_slopes(curve, _means(curve))[0]), _interval(found, curve))


def slope_difference(one: Curve, other: Curve, seed: int = 0) -> Slope:
    """Return the slope of ``one`` minus that of ``other``, with its interval over the draws of both."""
    if len(one) < 2 or len(other) < 2:
        return Slope(math.nan, NONE)
    means = _resampled([one, other], seed)
    found = _slopes(one, means[0]) - _slopes(other, means[1])
    whole = _slopes(one, _means(one)) - _slopes(other, _means(other))
    return Slope(float(whole[0]), _interval(found, one, other))


def equal_rows(mode: Curve, baseline: Curve, at: int, seed: int = 0) -> Equal | None:
    """Return the rows at which ``baseline`` equals ``mode`` at ``at`` rows; None if one has no errors to compare.

    Between its sizes the baseline's error is interpolated in log-log. Beyond them it is not known.
    """
    if at not in mode or len(baseline) < 2:
        return None
    own, sizes = {at: mode[at]}, sorted(baseline)
    means = _resampled([own, baseline], seed)
    found = np.array([_crossing(sizes, base, mine) for mine, base in zip(means[0][:, 0], means[1], strict=True)])
    whole = _crossing(sizes, _means(baseline)[0], float(_means(own)[0, 0]))
    return Equal(at, whole, _interval(found, own, baseline))


def _means(curve: Curve) -> Floats:
    """Return the mean errors (1, sizes) of a curve, small sizes first."""
    return np.array([[np.mean(curve[rows]) for rows in sorted(curve)]])


def _slopes(curve: Curve, means: Floats) -> Floats:
    """Return the slope of each row of mean errors (b, sizes) of ``curve``, by least squares of the logarithms."""
    x = np.log(sorted(curve))
    x -= x.mean()
    return np.asarray(np.log(means) @ x / (x @ x))


def _crossing(sizes: Sequence[int], baseline: Floats, error: float) -> float:
    """Return the first rows at which the errors of the ``baseline`` (sizes,) fall to ``error``."""
    if baseline[0] <= error:
        return 0.0 if baseline[0] < error else float(sizes[0])
    points = zip(sizes, baseline.tolist(), strict=True)
    for (n, above), (m, below) in pairwise(points):
        if below <= error:
            part = math.log(above / error) / math.log(above / below)
            return float(n * (m / n) ** part)
    return math.inf


def _resampled(curves: Sequence[Curve], seed: int) -> list[Floats]:
    """Return the mean errors (resamples, sizes) of each of ``curves``, small sizes first, for resampled draws.

    Sizes with as many draws get the same ones, as nested training sets have them in common.
    """
    draws = np.random.default_rng(seed)
    counts = sorted({len(errors) for curve in curves for errors in curve.values()})
    chosen = {n: draws.integers(n, size=(_RESAMPLES, n)) for n in counts}
    return [
        np.stack([np.asarray(curve[rows], float)[chosen[len(curve[rows])]].mean(axis=1) for rows in sorted(curve)], 1)
        for curve in curves
    ]


def _interval(values: Floats, *curves: Curve) -> Interval:
    """Return the expanded percentile interval of resampled ``values``, for the smallest number of draws."""
    n = min(len(errors) for curve in curves for errors in curve.values())
    if n < 2 or np.isnan(values).any():
        return NONE
    tail = expanded(n)
    low, high = np.quantile(values, [tail, 1 - tail], method="closest_observation")
    return Interval(float(low), float(high))
