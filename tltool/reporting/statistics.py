"""What runs say together: means over seeds, differences to scratch over pairs, errors by element, mean curves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tltool.quantities import QUANTITIES
from tltool.reporting.runs import STAGES, Result

if TYPE_CHECKING:
    import pandas as pd

K = TypeVar("K")
T = TypeVar("T")
Seeds = tuple[int | None, int | None, int | None, int | None]  # of the run, its split and its draw, and the fold
_MODES = ("scratch", "finetune", "freeze", "lora", "features", "auto")
_ALL_SIGNS = 14


class Spread(NamedTuple):
    """Mean and sample standard deviation of ``n`` numbers; NaN where too few are known (0 and 1)."""

    n: int
    mean: float
    sd: float


class Paired(NamedTuple):
    """Test MAE of a mode minus that of scratch, over ``n`` pairs of runs with one seed, split and training size.

    ``low`` to ``high`` is the 95 % interval of the mean (Student's t over pairs); all in the quantity's unit. Two-sided
    probabilities of a mean at least so far from zero if there were no difference: ``p`` by Student's t, which takes the
    differences to be normally distributed, and ``p_signs`` with the sign of each taken at random (Fisher, The Design of
    Experiments, 1935, section 21), which does not but cannot fall below 2^(1 - n).
    """

    n: int
    mean: float
    low: float
    high: float
    verdict: str
    p: float = math.nan
    p_signs: float = math.nan


class Place(NamedTuple):
    """What runs must share to be compared."""

    stage: str
    target: str
    data: str
    quantity: str
    train_size: int | None


class Summary(NamedTuple):
    """The runs of one mode in one place, over seeds; errors are of the test part.

    ``MAE`` and ``RMSE`` in ``unit``; ``plain_MAE`` in ``plain_unit``, for a log10 quantity alone; ``seconds`` of a
    run. ``of_seeds`` is the MAE of each pair of seeds and fold. ``best``: lowest mean MAE of several modes here.
    """

    place: Place
    mode: str
    runs: tuple[Result, ...]
    unit: str
    MAE: Spread
    plain_MAE: Spread | None
    plain_unit: str
    MAE_over_MAD: Spread
    RMSE: Spread
    R2: Spread
    trainable_parameters: Spread
    seconds: Spread
    of_seeds: dict[Seeds, float]
    paired: Paired | None = None
    best: bool = False


def summarise(results: Iterable[Result]) -> list[Summary]:
    """Return one summary for each place and mode, in that order."""
    found = [(Place(r.stage, r.target, r.data, name, r.train_size), r) for r in results for name in r.quantities]
    places = grouped(found, lambda pair: pair[0])
    rows: list[Summary] = []
    for place in sorted(places, key=lambda p: (STAGES.index(p.stage), *p[1:4], p.train_size or math.inf)):
        modes = grouped((run for _, run in places[place]), lambda run: run.mode)
        here = [_summary(place, mode, modes[mode]) for mode in sorted(modes, key=mode_order)]
        known = [row.MAE.mean for row in here if row.MAE.n]
        best = min(known) if len(known) > 1 else math.nan
        scratch = next((row.of_seeds for row in here if row.mode == "scratch"), {})
        for row in here:
            judged = place.stage == "transfer" and row.mode != "scratch"
            paired = _paired(row.of_seeds, scratch) if judged else None
            rows.append(row._replace(paired=paired, best=row.MAE.mean == best))
    return rows


def mode_order(mode: str) -> tuple[int, str]:
    """Return a key that sorts modes: the baseline first, modes that are not the house's last."""
    return _MODES.index(mode) if mode in _MODES else len(_MODES), mode


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return {key: items with that key}, all in the order of ``items``."""
    found: dict[K, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def by_element(rows: pd.DataFrame) -> dict[str, tuple[float, int]]:
    """Return {symbol: (mean absolute error, number of crystals)} over the crystals that contain the element.

    ``rows`` has columns id, error and elements; a crystal that several runs predict counts once, with its mean error.
    """
    crystals = rows.groupby("id").agg(error=("error", "mean"), elements=("elements", "first"))
    pairs = zip(crystals["error"], crystals["elements"], strict=True)
    of = grouped(((s, float(error)) for error, symbols in pairs for s in set(symbols.split())), lambda pair: pair[0])
    return {symbol: (fmean(error for _, error in found), len(found)) for symbol, found in sorted(of.items())}


def mean_curve(curves: Sequence[Mapping[int, float]]) -> list[tuple[int, float]]:
    """Average {epoch: value} over runs at the epochs that each reached: elsewhere runs that stop would make it jump."""
    finite = [{epoch for epoch, value in curve.items() if math.isfinite(value)} for curve in curves if curve]
    shared = set.intersection(*finite) if finite else set()
    return [(epoch, fmean(curve[epoch] for curve in curves if curve)) for epoch in sorted(shared)]


def _summary(place: Place, mode: str, runs: Sequence[Result]) -> Summary:
    def over(metric: str) -> Spread:
        return _spread(run.metric(place.quantity, metric) for run in runs)

    known = QUANTITIES.get(place.quantity)
    plain = QUANTITIES[known.log10_of] if known and known.log10_of else None
    seeded = [((run.seed, run.split_seed, run.draw, run.fold), run.metric(place.quantity, "MAE")) for run in runs]
    pairs = [(seeds, mae) for seeds, mae in seeded if seeds[0] is not None and math.isfinite(mae)]
    return Summary(
        place=place,
        mode=mode,
        runs=tuple(runs),
        unit=str(runs[0].quantities[place.quantity].get("unit") or "unit not stated"),
        MAE=over("MAE"),
        plain_MAE=over(f"MAE_{plain.name}") if plain else None,
        plain_unit=plain.unit if plain else "",
        MAE_over_MAD=over("MAE/MAD"),
        RMSE=over("RMSE"),
        R2=over("R2"),
        trainable_parameters=_spread(run.trainable_parameters for run in runs),
        seconds=_spread(run.seconds for run in runs),
        # The mean where a run was repeated, so that it counts as one pair.
        of_seeds={seeds: fmean(m for _, m in found) for seeds, found in grouped(pairs, lambda pair: pair[0]).items()},
    )


def _spread(values: Iterable[float]) -> Spread:
    known = [value for value in values if math.isfinite(value)]
    return Spread(len(known), fmean(known) if known else math.nan, stdev(known) if len(known) > 1 else math.nan)


def _paired(mode: Mapping[Seeds, float], scratch: Mapping[Seeds, float]) -> Paired:
    differences = [mode[seeds] - scratch[seeds] for seeds in sorted(mode.keys() & scratch.keys(), key=str)]
    spread = _spread(differences)
    if spread.n < 2:
        return Paired(spread.n, spread.mean, math.nan, math.nan, "not known")
    from scipy import stats

    error = spread.sd / math.sqrt(spread.n)
    half = float(stats.t.ppf(0.975, spread.n - 1)) * error
    low, high = spread.mean - half, spread.mean + half
    verdict = "positive transfer" if high < 0 else "negative transfer" if low > 0 else "neutral"
    t = abs(spread.mean) / error if error else (math.inf if spread.mean else 0.0)
    p = 2 * float(stats.t.sf(t, spread.n - 1))
    return Paired(spread.n, spread.mean, low, high, verdict, p, _p_signs(differences))


def _p_signs(differences: Sequence[float]) -> float:
    """Return the share of all choices of signs whose sum is as far from zero; of 20,000 random ones beyond 14 pairs."""
    import numpy as np

    n, sizes = len(differences), np.abs(differences)
    if n <= _ALL_SIGNS:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ sizes) >= abs(sum(differences)) * (1 - 1e-9)).mean())
    signs = np.random.default_rng(0).choice([-1, 1], size=(20_000, n))
    hits = int((np.abs(signs @ sizes) >= abs(sum(differences)) * (1 - 1e-9)).sum())
    return (hits + 1) / 20_001
