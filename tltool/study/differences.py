"""Paired differences between the modes of a study and its baseline, with intervals, corrected for their number.

Everything is computed from test errors and predictions in the run folders. Sizes: d draws, t test rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.reporting.finished_runs import Result, predictions
from tltool.reporting.next_runs import pairs_needed
from tltool.study.plan import Kind
from tltool.study.table import Row

Floats = npt.NDArray[np.float64]

_RESAMPLES = 20_000
_LEVEL = 0.05
_FEW = 10  # values below which resamples are too much alike
PLANNED = 0.05
"""Share of the baseline's error that the planning figure is for."""


class Interval(NamedTuple):
    """A 95 % interval; NaN where there are too few numbers for one."""

    low: float
    high: float

    @property
    def leaves_zero_out(self) -> bool:
        """Whether it lies on one side of zero."""
        return self.low > 0 or self.high < 0


class Difference(NamedTuple):
    """Test error of a mode minus that of the baseline, over ``n`` draws with the same training and test rows.

    Errors and intervals are in ``unit``: ``over_draws`` is for other training rows and the same test rows,
    ``over_rows`` for the same trainings and other test rows (NaN where predictions are missing). ``p`` is two-sided, of
    Student's t over draws; ``p_holm`` is corrected for the number of comparisons in the table. ``draws_needed`` settle
    a difference of 5 % of the baseline's error, with 80 % power at the 5 % level; ``spread`` is the standard deviation
    of the differences between draws, divided by the baseline's error.
    """

    kind: Kind
    quantity: str
    unit: str
    n: int
    baseline: float
    error: float
    mean: float
    over_draws: Interval
    over_rows: Interval
    p: float
    p_holm: float
    spread: float
    draws_needed: float

    @property
    def relative(self) -> float:
        """The difference divided by the error of the baseline."""
        return self.mean / self.baseline if self.baseline else math.nan

    @property
    def verdict(self) -> str:
        """What the corrected p value says: better, worse, not settled, or not known with fewer than two draws."""
        if not math.isfinite(self.p_holm):
            return "not known"
        if self.p_holm >= _LEVEL:
            return "not settled"
        return "better" if self.mean < 0 else "worse"


def compare(rows: Sequence[Row], baseline: str) -> list[Difference]:
    """Return the difference of every mode to ``baseline``, by kind and quantity, with p values corrected over all."""
    of_baseline: dict[tuple[str, int | None, str, str], dict[int, Row]] = {}
    others: dict[tuple[Kind, str], dict[int, Row]] = {}
    for row in rows:
        if not math.isfinite(row.error):
            continue
        kind = row.cell.kind
        if kind.mode == baseline:
            of_baseline.setdefault((kind.target, kind.size, kind.split, row.quantity), {})[row.cell.draw] = row
        else:
            others.setdefault((kind, row.quantity), {})[row.cell.draw] = row
    found = [
        _difference(kind, quantity, own, pair)
        for (kind, quantity), own in others.items()
        if (pair := of_baseline.get((kind.target, kind.size, kind.split, quantity)))
    ]
    known = [one for one in found if one is not None]
    corrected = holm([one.p for one in known])
    return [one._replace(p_holm=p) for one, p in zip(known, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's step-down method; NaN stays NaN and does not count.

    Holm, Scandinavian Journal of Statistics 6, 65 (1979).
    """
    known = sorted((p, k) for k, p in enumerate(p_values) if math.isfinite(p))
    found, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, k) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        found[k] = largest
    return found


def mean_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Return the 95 % interval of the mean of ``values`` (n,); NaN below two.

    From ten values on by bootstrap, with an expanded percentile interval: the percentiles are those at which, for
    normally distributed values, the interval is as wide as that of Student's t (Hesterberg, The American Statistician
    69, 371 (2015), section 5.3). Resamples of fewer values are too much alike; theirs is Student's t.
    """
    known = np.asarray(values, float)
    if len(known) < 2:
        return Interval(math.nan, math.nan)
    if len(known) < _FEW:
        from scipy import stats

        half = float(stats.t.ppf(1 - _LEVEL / 2, len(known) - 1)) * float(known.std(ddof=1)) / math.sqrt(len(known))
        return Interval(float(known.mean()) - half, float(known.mean()) + half)
    drawn = np.random.default_rng(seed).integers(len(known), size=(_resamples(len(known)), len(known)))
    low, high = np.quantile(known[drawn].mean(axis=1), [(tail := expanded(len(known))), 1 - tail])
    return Interval(float(low), float(high))


def expanded(n: int) -> float:
    """Return the tail of the expanded percentile interval of ``n`` values in place of 0.025."""
    from scipy import stats

    return float(stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(1 - _LEVEL / 2, n - 1)))


def _resamples(n: int) -> int:
    """Return the number of resamples: fewer of many values, whose mean varies less and costs more."""
    return max(2_000, min(_RESAMPLES, 4_000_000 // n))


def _difference(kind: Kind, quantity: str, own: Mapping[int, Row], other: Mapping[int, Row]) -> Difference | None:
    draws = sorted(draw for draw in own.keys() & other.keys() if _same_rows(own[draw].run, other[draw].run, quantity))
    if not draws:
        return None
    values = [own[draw].error - other[draw].error for draw in draws]
    baseline, n, sd = fmean(other[draw].error for draw in draws), len(draws), stdev(values) if len(draws) > 1 else 0.0
    needed = pairs_needed(PLANNED * baseline, sd) if n > 1 and baseline > 0 else math.nan
    return Difference(
        kind=kind,
        quantity=quantity,
        unit=own[draws[0]].unit,
        n=n,
        baseline=baseline,
        error=fmean(own[draw].error for draw in draws),
        mean=fmean(values),
        over_draws=mean_interval(values),
        over_rows=_over_rows([(own[draw].run, other[draw].run) for draw in draws], quantity),
        p=p_value(values),
        p_holm=math.nan,
        spread=sd / baseline if n > 1 and baseline else math.nan,
        draws_needed=needed,
    )


def p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p value of Student's paired t-test; NaN below two values."""
    from scipy import stats

    if len(differences) < 2:
        return math.nan
    sd = stdev(differences)
    if sd == 0:
        return 0.0 if differences[0] else 1.0
    t = abs(fmean(differences)) / (sd / math.sqrt(len(differences)))
    return 2 * float(stats.t.sf(t, len(differences) - 1))


def _same_rows(one: Result, other: Result, quantity: str) -> bool:
    """Say if two runs have the same training and test rows with the same labels."""
    same = [
        (run.seed, run.identity.get("train"), (run.identity.get("test") or {}).get(quantity)) for run in (one, other)
    ]
    return same[0] == same[1]


def _over_rows(pairs: Sequence[tuple[Result, Result]], quantity: str) -> Interval:
    """Return the bootstrap interval of the mean difference over test rows, of each its mean over the draws."""
    import pandas as pd

    tables = []
    for own, other in pairs:
        errors = [predictions([run], quantity) for run in (own, other)]
        if errors[0] is None or errors[1] is None:
            return Interval(math.nan, math.nan)
        both = [table.set_index("id")["error"] for table in errors if table is not None]
        tables.append(both[0] - both[1])
    means = pd.concat(tables, axis=1).mean(axis=1).dropna()
    return mean_interval(means.tolist())
