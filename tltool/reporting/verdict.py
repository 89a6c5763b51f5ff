"""The verdict on one transfer: is it better than scratch in the finished runs, and how certain is that."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from tltool.errors import DataError
from tltool.reporting.finished_runs import Result, collect, read
from tltool.reporting.next_runs import Advice, advice, is_on_the_way
from tltool.reporting.statistics import Summary, summarise
from tltool.reporting.unpaired import unpaired
from tltool.reporting.wording import fixed, plural, probability


def so_far(folder: Path, runs: Path) -> list[Advice]:
    """Return what to say of the transfer in ``folder``: a sentence for each quantity, over it and its like in ``runs``.

    Its like are finished runs of the same study (``reporting.comparable``), mode, settings and source; the baseline
    are scratch runs of that study. One of each with the same seed and the same rows make a pair. What looks like a
    baseline and is none follows with the reason, and last what to run next, with the command, where nothing is settled.
    """
    this = read(folder.resolve(), str(folder), "transfer")
    if this.mode == "scratch":
        return []
    try:
        others = [run for run in collect([runs]).results if run.folder != this.folder]
    except DataError:
        others = []
    rows = [row for row in summarise([this, *others]) if any(run is this for run in row.runs)]
    told = [Advice(text) for row in rows for text in _told(row)]
    if is_on_the_way(this) and any(row.paired and row.paired.n < 2 for row in rows):
        return told
    for one in unpaired([this, *others], only=this):
        told.append(Advice(f"{one.quantity}: the scratch run {one.other} is not its baseline. {one.reason}"))
    return told + _next(rows, this)


def _told(row: Summary) -> Iterator[str]:
    if not row.paired or not math.isfinite(row.MAE.mean):
        return
    n, mean, low, high, verdict, p, p_signs, _ = row.paired
    side, name = "lower" if mean < 0 else "higher", row.place.quantity
    if n == 0:
        yield f"{name}: not known if this transfer is positive; no scratch run so far has this seed and the same rows."
    elif n == 1:
        yield (
            f"{name}: test MAE {fixed(abs(mean))} {row.unit} {side} than that of scratch with this seed and the same "
            "rows. One pair is no verdict."
        )
    else:
        yield (
            f"{name}: {verdict} so far over {plural(n, 'pair')}. Its test MAE is on average {fixed(abs(mean))} "
            f"{row.unit} {side} than that of scratch (95 % interval of the difference {fixed(low, mean)} to "
            f"{fixed(high, mean)}, p {probability(p)}; by signs, p {probability(p_signs)})."
        )


def _next(rows: Sequence[Summary], this: Result) -> list[Advice]:
    """Return what to run next for each quantity, and the command that serves all of them with the last."""
    found = [(row.place.quantity, one) for row in rows if (one := advice(row, this))]
    if not found:
        return []
    most = max((one for _, one in found), key=lambda one: one.n)
    texts = [Advice(f"{name}: {one.text}") for name, one in found]
    return [*texts[:-1], texts[-1]._replace(command=most.command)]
