"""The sentences of a study: what the numbers of its tables say, for a reader who never heard of the tool."""

import math
from collections.abc import Iterator, Sequence

from tltool.reporting.comparable import grouped
from tltool.reporting.wording import fixed, plural
from tltool.study.differences import PLANNED, Difference, Interval
from tltool.study.power_laws import Equal, Slope
from tltool.study.summary import Judged, Law, SourceLaw, Summary


def heads(found: Summary) -> Iterator[str]:
    """Yield one sentence for each mode and source of a target: where it beats the baseline, and what that is worth."""
    for law in found.laws:
        line = law.line
        groups = grouped(line.differences.items(), lambda pair: pair[1].verdict)
        parts = [f"{word} at {_rows([rows for rows, _ in some])}" for word, some in groups.items()]
        if not parts:
            continue
        text = f"{_named(law)} is {_joined(parts)} compared with {found.axes.baseline}"
        rows, first = next(iter(line.differences.items()))
        text += f"; at {rows:,} rows its error is {abs(first.relative):.0%} {_side(first.mean)}"
        equal = next((one for one in law.equal if one.at == rows), None)
        yield f"{text}{'' if equal is None else f', {_worth(equal, found)}'}."


def slopes(law: Law, baseline: str) -> str:
    """Return in one sentence whether the error of a line falls with rows as that of the baseline does."""
    text = (
        f"{_named(law)}: the error falls as rows to the power {_slope(law.slope)}, that of {baseline} as rows to the "
        f"power {_slope(law.baseline)}"
    )
    if not law.difference.interval.leaves_zero_out:
        return f"{text}; the two slopes cannot be told apart (difference {_slope(law.difference)})."
    way = "less steep" if law.difference.exponent > 0 else "steeper"
    return f"{text}; it is {way} (difference {_slope(law.difference)})."


def of_source(law: SourceLaw) -> str:
    """Return in one sentence how the error falls with the rows of the pretraining, and with those of the target."""
    where = f"{law.place.target}, {law.mode} from {law.family}, {law.size:,} target rows"
    inside = law.slope.interval.low <= law.of_target.interval.high
    inside = inside and law.of_target.interval.low <= law.slope.interval.high
    same = "the intervals overlap, so the slopes may be the same" if inside else "the slopes differ"
    return (
        f"{where}: with the rows of the pretraining the error goes as rows to the power {_slope(law.slope)}, with "
        f"target rows as {_slope(law.of_target)}; {same}. The interval leaves out the chance of the pretraining, "
        "which was made once for each size."
    )


def planning(one: Difference) -> str:
    """Return how many draws settle a difference of 5 % of the baseline's error."""
    if not math.isfinite(one.draws_needed):
        return "-"
    return "more than 9,999" if one.draws_needed >= 10_000 else f"{one.draws_needed:,.0f}"


def claim(judged: Judged) -> str:
    """Return a claim with what the study says of it, and the figures."""
    figures = [
        f"{one.kind.target}, {'all' if one.kind.size is None else f'{one.kind.size:,}'} rows, from {one.kind.source}: "
        f"{percent(one)}"
        for one in judged.found[:6]
    ]
    more = f"; and {len(judged.found) - 6:,} more" if len(judged.found) > 6 else ""
    return f"{judged.claim.says} {judged.verdict.capitalize()}. ({'; '.join(figures) or 'no cell of it is done'}{more})"


def percent(one: Difference) -> str:
    """Return the difference as a share of the baseline's error, with its interval over draws."""
    text = f"{one.relative:+.1%}"
    if not math.isfinite(one.over_draws.low):
        return text
    low, high = (end / one.baseline for end in one.over_draws)
    return f"{text} [{low:+.1%}, {high:+.1%}]"


def interval(found: Interval, like: float) -> str:
    """Return an interval with the decimals of ``like``."""
    return f"[{fixed(found.low, like)}, {fixed(found.high, like)}]" if math.isfinite(found.low) else "-"


def rows_equal(equal: Equal | None) -> str:
    """Return the rows of the baseline that equal a mode, with their interval."""
    if equal is None:
        return "-"
    ends = (
        f" [{_count(equal.interval.low)}, {_count(equal.interval.high)}]" if math.isfinite(equal.interval.low) else ""
    )
    return f"{_count(equal.rows)}{ends}"


def planned() -> str:
    """Return the header of the planning figure."""
    return f"draws for {PLANNED:.0%}"


def _worth(equal: Equal, found: Summary) -> str:
    if math.isinf(equal.rows):
        return f"below that of {found.axes.baseline} at its largest number of rows"
    if not equal.rows:
        return f"above that of {found.axes.baseline} at its smallest number of rows"
    return f"that of {found.axes.baseline} at {rows_equal(equal)} rows"


def _count(rows: float) -> str:
    return "more than measured" if math.isinf(rows) else "fewer than measured" if not rows else f"{rows:,.0f}"


def _slope(slope: Slope) -> str:
    text = f"{slope.exponent:.2f}"
    ends = slope.interval
    return f"{text} [{ends.low:.2f}, {ends.high:.2f}]" if math.isfinite(ends.low) else text


def _named(law: Law) -> str:
    place = law.line.place
    split = "" if place.split == "random" else f" ({place.split})"
    return f"{place.target}{split}: {law.line.mode} from {law.line.source}"


def _side(difference: float) -> str:
    return "lower" if difference < 0 else "higher"


def _rows(sizes: Sequence[int]) -> str:
    return f"{_joined([f'{size:,}' for size in sizes])} rows"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def cells(n: int) -> str:
    """Return a number of cells in words."""
    return plural(n, "cell")
