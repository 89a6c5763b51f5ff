"""Conformal quantiles: how wide an interval must be to hold a new label with a stated probability.

A few lines of order statistics, which mapie and crepes have too, but not for residuals that are made beforehand and
travel with a model as numbers. Sizes: m scores, r rows they are of.
"""

import math

import numpy as np

from tltool.data.record import Floats
from tltool.errors import ConfigError

_ROUNDING = 1e-9


def checked(coverage: float) -> float:
    """Return ``coverage``; raise ConfigError unless it is above 0 and below 1."""
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage={coverage} must be above 0 and below 1, such as 0.9; null for no intervals.")
    return coverage


def needed(coverage: float) -> int:
    """Return the fewest rows whose scores give a finite interval of this ``coverage``."""
    return math.ceil(coverage / (1 - coverage) - _ROUNDING)


def quantile(scores: Floats, coverage: float, rows: int | None = None) -> float:
    """Return the score that that of a new row does not exceed with a probability of at least ``coverage``.

    The k-th smallest of r scores, k = ceil(coverage (r + 1)), if all r + 1 are exchangeable (Vovk and others,
    Algorithmic Learning in a Random World, 2005; Lei and others, doi:10.1080/01621459.2017.1307116, theorem 2.2).
    ``scores`` (m) may hold several of each of the r ``rows``, as repeats of a cross-validation give them; the same
    share of them counts. Infinite if there are fewer rows than ``needed``.
    """
    rows = len(scores) if rows is None else rows
    k = math.ceil(coverage * (rows + 1) - _ROUNDING)
    if not rows or k > rows:
        return math.inf
    at = math.ceil(k * len(scores) / rows - _ROUNDING) - 1
    return float(np.partition(scores, at)[at])
