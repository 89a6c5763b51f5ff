"""The verdict on a cross-validated transfer: mode against scratch, fold by fold. Sizes: f folds of all repeats."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from tltool.quantities import Quantity
from tltool.reporting.wording import fixed


class FoldVerdict(NamedTuple):
    """MAE of a mode minus that of scratch over ``n`` folds, with the 95 % interval ``low`` to ``high`` of the mean.

    Of a class, it is the Brier score in the place of the MAE.
    """

    n: int
    mean: float
    low: float
    high: float
    p: float
    verdict: str


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and sample standard deviation of the finite ``values``; NaN where too few are known."""
    known = [value for value in values if math.isfinite(value)]
    return (fmean(known) if known else math.nan), (stdev(known) if len(known) > 1 else math.nan)


def verdict(mode: Sequence[float], scratch: Sequence[float], test_per_train: float) -> FoldVerdict:
    """Compare the MAE (f) of a mode with that of scratch on the same folds.

    ``test_per_train`` is the number of test rows over that of training rows of a fold. Folds share training rows, so
    their errors are not independent; the variance is that of the corrected resampled t-test (Nadeau and Bengio, Machine
    Learning 52, 239 (2003), doi:10.1023/A:1024068626366), (1/f + test/train) times the variance over folds.
    """
    found = np.array(mode, dtype=float) - np.array(scratch, dtype=float)
    found = found[np.isfinite(found)]
    if len(found) < 2:
        mean = float(found.mean()) if len(found) else math.nan
        return FoldVerdict(len(found), mean, math.nan, math.nan, math.nan, "not known")
    from scipy import stats

    mean = float(found.mean())
    error = math.sqrt((1 / len(found) + test_per_train) * float(found.var(ddof=1)))
    half = float(stats.t.ppf(0.975, len(found) - 1)) * error
    word = "positive transfer" if mean + half < 0 else "negative transfer" if mean - half > 0 else "neutral"
    t = abs(mean) / error if error else (math.inf if mean else 0.0)
    return FoldVerdict(len(found), mean, mean - half, mean + half, 2 * float(stats.t.sf(t, len(found) - 1)), word)


def told(about: Quantity, mode: Sequence[float], scratch: Sequence[float] | None, found: FoldVerdict | None) -> str:
    """Return the errors (f) of a quantity over its folds, and the verdict, in words."""
    word, unit = ("Brier score", "") if about.is_class else ("MAE", about.in_unit)
    mean, sd = spread(mode)
    plus = f" ± {fixed(sd, mean)}" if math.isfinite(sd) else ""
    text = f"{about.name}: {word} {fixed(mean)}{plus}{unit} over {len(mode)} folds (mean ± standard deviation)."
    if scratch is None or found is None:
        return text
    other, other_sd = spread(scratch)
    plus = f" ± {fixed(other_sd, mean)}" if math.isfinite(other_sd) else ""
    side = "lower" if found.mean < 0 else "higher"
    return (
        f"{text} Scratch on the same folds: {fixed(other, mean)}{plus}. {found.verdict.capitalize()}: the {word} is "
        f"{fixed(abs(found.mean))}{unit} {side} (95 % interval of the difference {fixed(found.low, found.mean)} to "
        f"{fixed(found.high, found.mean)}, wider than usual since folds share training rows)."
    )
