"""Compare one transfer with the finished scratch runs: is it better, and how certain is this."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from tltool.errors import DataError
from tltool.reporting.finished_runs import Result, collect, read
from tltool.reporting.next_runs import Advice, advice, cross_validation, is_on_the_way
from tltool.reporting.statistics import Summary, summarise
from tltool.reporting.unpaired import unpaired
from tltool.reporting.wording import fixed, plural, probability


def so_far(folder: Path, runs: Path) -> list[Advice]:
    """Return the comparison with scratch for the transfer in ``folder``, one sentence per quantity.

    It includes all finished runs in ``runs`` of the same study (``reporting.comparable``), mode, settings and source.
    The baseline is the scratch runs of that study. Two runs with the same seed and rows are a pair. Then come similar
    scratch runs that cannot be the baseline, with the reason; last, if the result is uncertain or rows are few, the
    next runs with their command.
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
        told.append(Advice(f"{one.quantity}: the scratch run {one.other} cannot be the baseline. {one.reason}"))
    return told + _next(rows, this) + cross_validation(this)


def _told(row: Summary) -> Iterator[str]:
    if not row.paired or not math.isfinite(row.error.mean):
        return
    n, mean, low, high, verdict, p, p_signs, _ = row.paired
    side, name = "lower" if mean < 0 else "higher", row.place.quantity
    if n == 0:
        yield f"{name}: transfer not known: there is no scratch run with this seed and the same rows yet."
    elif n == 1:
        yield (
            f"{name}: the test {row.judged.error} is {fixed(abs(mean))}{row.in_unit} {side} than that of scratch with "
            "the same seed and rows. One pair is not enough for a verdict."
        )
    else:
        yield (
            f"{name}: {verdict} over {plural(n, 'pair')} so far. The mean test {row.judged.error} is "
            f"{fixed(abs(mean))}{row.in_unit} {side} than that of scratch (95 % interval of the difference "
            f"{fixed(low, mean)} to {fixed(high, mean)}; p {probability(p)} (t-test), "
            f"p {probability(p_signs)} (signs))."
        )


def _next(rows: Sequence[Summary], this: Result) -> list[Advice]:
    """Return the next runs for each quantity; the last has the command, which is for all quantities."""
    found = [(row.place.quantity, one) for row in rows if (one := advice(row, this))]
    if not found:
        return []
    most = max((one for _, one in found), key=lambda one: one.n)
    texts = [Advice(f"{name}: {one.text}") for name, one in found]
    return [*texts[:-1], texts[-1]._replace(command=most.command)]
