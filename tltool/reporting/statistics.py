"""Compute statistics over runs: means over seeds, paired differences to scratch, errors by element, mean curves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from tltool import metrics
from tltool.metrics import Judged
from tltool.quantities import shipped
from tltool.reporting.comparable import Cell, Place, Placed, flat, grouped, place
from tltool.reporting.finished_runs import STAGES, Result

if TYPE_CHECKING:
    import pandas as pd

_MODES = ("scratch", "finetune", "freeze", "lora", "features", "auto")
_ALL_SIGNS = 14


class Spread(NamedTuple):
    """Mean and sample standard deviation of ``n`` numbers; NaN if n is too small (0 for the mean, 1 for both)."""

    n: int
    mean: float
    sd: float


class Paired(NamedTuple):
    """Test error of a mode minus that of scratch, over ``n`` pairs of runs with one seed and the same rows.

    ``low`` to ``high`` is the 95 % interval of the mean (Student's t over pairs), ``sd`` the sample standard deviation
    of the differences (NaN below two); all in the quantity's unit. Two-sided probabilities of a mean at least so far
    from zero if there were no difference: ``p`` by Student's t, which takes the differences to be normally
    distributed, and ``p_signs`` with the sign of each taken at random (Fisher, The Design of Experiments, 1935,
    section 21), which does not but cannot fall below 2^(1 - n).
    """

    n: int
    mean: float
    low: float
    high: float
    verdict: str
    p: float = math.nan
    p_signs: float = math.nan
    sd: float = math.nan


class Summary(NamedTuple):
    """The runs of one mode in one place, over seeds; errors are test errors.

    ``mode`` has in brackets the settings, or the source, in which these runs differ from others of the mode. ``error``
    is what models are compared by: the MAE in ``unit``, of a class the Brier score, which has none; ``judged`` has its
    name. ``plain_MAE`` is in ``plain_unit`` and exists only for a log10 quantity. ``errors`` has every metric that
    compares models, by name (``tltool.metrics``). ``seconds`` is the time of a run. ``of_cells`` is the error of each
    cell. ``best``: the lowest mean error of several modes in this place.
    """

    place: Place
    mode: str
    runs: tuple[Result, ...]
    unit: str
    judged: Judged
    error: Spread
    plain_MAE: Spread | None
    plain_unit: str
    errors: dict[str, Spread]
    trainable_parameters: Spread
    seconds: Spread
    of_cells: dict[Cell, float]
    paired: Paired | None = None
    best: bool = False

    @property
    def in_unit(self) -> str:
        """The unit after a number, with a space before it; nothing where it has none."""
        return f" {self.unit}" if self.unit else ""

    @property
    def of_unit(self) -> str:
        """The unit in brackets, with a space before them; nothing where it has none."""
        return f" ({self.unit})" if self.unit else ""


def summarise(results: Iterable[Result]) -> list[Summary]:
    """Return one summary for each place and mode, in that order; runs without a recorded identity are left out."""
    placed = place(results)
    places = grouped(placed, lambda p: p.place)
    scratch = {at: _of_cells(some) for at, some in grouped(filter(_is_scratch, placed), _pool).items()}
    rows: list[Summary] = []
    for where in sorted(places, key=lambda w: (STAGES.index(w.stage), *w[1:4], w.note, w.train_size or math.inf, w)):
        modes = grouped(places[where], _variant)
        labels = _labels([some[0].run for some in modes.values()])
        here = [_summary(where, label, some) for label, some in zip(labels, modes.values(), strict=True)]
        known = [row.error.mean for row in here if row.error.n]
        best = min(known) if len(known) > 1 else math.nan
        for (mode, _), row in sorted(zip(modes, here, strict=True), key=lambda pair: mode_order(pair[1].mode)):
            judged = where.stage == "transfer" and mode != "scratch"
            paired = _paired(row.of_cells, scratch.get((where.study, where.train_size), {})) if judged else None
            rows.append(row._replace(paired=paired, best=row.error.mean == best))
    return rows


def mode_order(mode: str) -> tuple[int, str]:
    """Return a sort key for modes: the baseline first, modes of users last."""
    name = mode.partition(" (")[0]
    return _MODES.index(name) if name in _MODES else len(_MODES), mode


def by_element(rows: pd.DataFrame) -> dict[str, tuple[float, int]]:
    """Return {symbol: (mean absolute error, number of crystals)} over the crystals that contain the element.

    ``rows`` has columns id, error and elements; a crystal that several runs predict counts once, with its mean error.
    """
    crystals = rows.groupby("id").agg(error=("error", "mean"), elements=("elements", "first"))
    pairs = zip(crystals["error"], crystals["elements"], strict=True)
    of = grouped(((s, float(error)) for error, symbols in pairs for s in set(symbols.split())), lambda pair: pair[0])
    return {symbol: (fmean(error for _, error in found), len(found)) for symbol, found in sorted(of.items())}


def mean_curve(curves: Sequence[Mapping[int, float]]) -> list[tuple[int, float]]:
    """Return the mean of {epoch: value} over runs at the epochs that all runs reached, as a list of pairs."""
    finite = [{epoch for epoch, value in curve.items() if math.isfinite(value)} for curve in curves if curve]
    shared = set.intersection(*finite) if finite else set()
    return [(epoch, fmean(curve[epoch] for curve in curves if curve)) for epoch in sorted(shared)]


def _is_scratch(placed: Placed) -> bool:
    return placed.run.stage == "transfer" and placed.run.mode == "scratch"


def _pool(placed: Placed) -> tuple[str, int | None]:
    """Return the study and size that the runs of a pair share; a rule for removed test crystals does not matter."""
    return placed.place.study, placed.place.train_size


def _variant(placed: Placed) -> tuple[str, str]:
    """Return the mode of a run, and its settings and source as text; the text is empty for scratch and pretrain."""
    run = placed.run
    if run.mode == "scratch" or run.stage == "pretrain":
        return run.mode, ""
    return run.mode, str(sorted(flat(run.settings.get("mode") or {}).items())) + run.source


def _labels(runs: Sequence[Result]) -> list[str]:
    """Return a name for each variant of a mode, given one run of each, with its settings and source in brackets."""
    found = []
    for run in runs:
        alike = [other for other in runs if other.mode == run.mode]
        every = [flat(other.settings.get("mode") or {}) for other in alike]
        own = flat(run.settings.get("mode") or {})
        keys = [k for k in dict.fromkeys(k for each in every for k in each) if len({e.get(k) for e in every}) > 1]
        words = [f"{key}={own[key]}" for key in keys if key in own]
        if run.mode != "scratch" and len({other.source for other in alike}) > 1:
            words.append(f"source {_short_path(run.source, [other.source for other in alike])}")
        found.append(f"{run.mode} ({', '.join(words)})" if words else run.mode)
    return found


def _short_path(path: str, others: Sequence[str]) -> str:
    """Return the last parts of ``path`` that distinguish it from ``others``."""
    parts = path.removesuffix("/model").split("/")
    ends = [other.removesuffix("/model").split("/") for other in others if other != path]
    n = next((n for n in range(1, len(parts)) if not any(end[-n:] == parts[-n:] for end in ends)), len(parts))
    return "/".join(parts[-n:])


def _of_cells(placed: Sequence[Placed]) -> dict[Cell, float]:
    """Return {cell: test error}; repeated runs are averaged, so that they count as one pair."""
    pairs = [(p.cell, p.run.error(p.place.quantity)) for p in placed]
    known = [(cell, error) for cell, error in pairs if cell.seed is not None and math.isfinite(error)]
    return {cell: fmean(error for _, error in some) for cell, some in grouped(known, lambda pair: pair[0]).items()}


def _summary(place: Place, mode: str, placed: Sequence[Placed]) -> Summary:
    runs = [p.run for p in placed]

    def over(metric: str) -> Spread:
        return _spread(run.metric(place.quantity, metric) for run in runs)

    known = runs[0].about(place.quantity)
    judged, is_class = metrics.judged(known), known is not None and known.is_class
    plain = shipped().get(known.log10_of) if known and known.log10_of else None
    return Summary(
        place=place,
        mode=mode,
        runs=tuple(runs),
        unit="" if is_class else str(runs[0].quantities[place.quantity].get("unit") or "unknown unit"),
        judged=judged,
        error=over(judged.error),
        plain_MAE=over(f"MAE_{plain.name}") if plain else None,
        plain_unit=plain.unit if plain else "",
        errors={metric.name: over(metric.name) for metric in metrics.of(known) if metric.better},
        trainable_parameters=_spread(run.trainable_parameters for run in runs),
        seconds=_spread(run.seconds for run in runs),
        of_cells=_of_cells(placed),
    )


def _spread(values: Iterable[float]) -> Spread:
    known = [value for value in values if math.isfinite(value)]
    return Spread(len(known), fmean(known) if known else math.nan, stdev(known) if len(known) > 1 else math.nan)


def _paired(mode: Mapping[Cell, float], scratch: Mapping[Cell, float]) -> Paired:
    found = [mode[cell] - scratch[cell] for cell in sorted(mode.keys() & scratch.keys(), key=str)]
    spread = _spread(found)
    if spread.n < 2:
        return Paired(spread.n, spread.mean, math.nan, math.nan, "not known")
    from scipy import stats

    error = spread.sd / math.sqrt(spread.n)
    half = float(stats.t.ppf(0.975, spread.n - 1)) * error
    low, high = spread.mean - half, spread.mean + half
    verdict = "positive transfer" if high < 0 else "negative transfer" if low > 0 else "neutral"
    t = abs(spread.mean) / error if error else (math.inf if spread.mean else 0.0)
    p = 2 * float(stats.t.sf(t, spread.n - 1))
    return Paired(spread.n, spread.mean, low, high, verdict, p, _p_signs(found), spread.sd)


def _p_signs(differences: Sequence[float]) -> float:
    """Return the p value of random signs of the differences: exact up to 14 pairs, else from 20,000 random choices."""
    import numpy as np

    n, sizes = len(differences), np.abs(differences)
    if n <= _ALL_SIGNS:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ sizes) >= abs(sum(differences)) * (1 - 1e-9)).mean())
    signs = np.random.default_rng(0).choice([-1, 1], size=(20_000, n))
    hits = int((np.abs(signs @ sizes) >= abs(sum(differences)) * (1 - 1e-9)).sum())
    return (hits + 1) / 20_001
