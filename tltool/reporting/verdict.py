"""What one transfer says beside the finished runs around it: is it better than scratch, and how sure is that."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tltool.errors import DataError
from tltool.reporting.runs import Result, collect, read
from tltool.reporting.statistics import Summary, summarise
from tltool.reporting.wording import fixed, plural, probability

_HOW = "'tltool transfer -m mode=scratch,{} seed=0,1,2,3,4' with the same settings gives five pairs."


def so_far(folder: Path, runs: Path) -> list[str]:
    """Return a sentence for each quantity of the transfer in ``folder``, over it and its like under ``runs``.

    Its like are finished runs of the same mode, source and settings; the baseline are scratch runs of the same target,
    data, training size, fit and optimiser. One of each with the same seed, split and fold make a pair.
    """
    this = read(folder.resolve(), folder.name, "transfer")
    if this.mode == "scratch":
        return []
    try:
        others = [run for run in collect([runs]).results if run.folder != this.folder]
    except DataError:
        others = []
    like = [run for run in others if _like(run, this) or _baseline(run, this)]
    rows = [row for row in summarise([this, *like]) if row.mode == this.mode]
    return [text for row in rows if row.place.train_size == this.train_size for text in _told(row)]


def _told(row: Summary) -> Iterator[str]:
    if not row.paired or not math.isfinite(row.MAE.mean):
        return
    n, mean, low, high, verdict, p, p_signs = row.paired
    side = "lower" if mean < 0 else "higher"
    if n == 0:
        how = "Whether this transfer is positive shows beside scratch runs of the same seed and split; there is none. "
        yield how + _HOW.format(row.mode)
    elif n == 1:
        yield (
            f"Against scratch with this seed and split: test MAE of {row.place.quantity} {fixed(abs(mean))} {row.unit} "
            f"{side}. One pair is no verdict; {_HOW.format(row.mode)}"
        )
    else:
        yield (
            f"{verdict.capitalize()} so far over {plural(n, 'pair')}: test MAE of {row.place.quantity} on average "
            f"{fixed(abs(mean))} {row.unit} {side} than that of scratch (95 % interval of the difference "
            f"{fixed(low, mean)} to {fixed(high, mean)}, p {probability(p)}; by signs, p {probability(p_signs)})."
        )


def _like(run: Result, this: Result) -> bool:
    same = (run.stage, run.mode, run.target, run.data, run.train_size, run.source)
    return same == ("transfer", this.mode, this.target, this.data, this.train_size, this.source) and _agree(
        run, this, "mode", "fit", "optimiser"
    )


def _baseline(run: Result, this: Result) -> bool:
    same = (run.stage, run.mode, run.target, run.data, run.train_size)
    return same == ("transfer", "scratch", this.target, this.data, this.train_size) and _agree(
        run, this, "fit", "optimiser"
    )


def _agree(run: Result, this: Result, *keys: str) -> bool:
    """Say whether settings are equal, seeds of estimators apart; what an older run did not keep counts as equal."""
    return all(
        key not in run.settings or _seedless(run.settings[key]) == _seedless(this.settings.get(key)) for key in keys
    )


def _seedless(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _seedless(value) for key, value in node.items() if key != "random_state"}
    return node
