"""The sentences of a study: what the numbers of its tables say, for a reader who never heard of the tool."""

import math
from collections.abc import Iterator, Sequence

from tltool.reporting.comparable import grouped
from tltool.reporting.wording import fixed, plural
from tltool.study.differences import PLANNED, Difference, Interval
from tltool.study.power_laws import Equal, Slope
from tltool.study.summary import Judged, Law, SourceLaw, Summary


def heads(found: Summary) -> Iterator[str]:
    """Yield how many comparisons are settled; then a sentence for each mode and source of a target."""
    verdicts = [one.verdict for one in found.differences]
    if verdicts:
        better, worse = (verdicts.count(word) for word in ("better", "worse"))
        yield (
            f"{plural(len(verdicts), 'comparison')} with {found.axes.baseline}: {better:,} better, {worse:,} worse, "
            f"{len(verdicts) - better - worse:,} not settled (after the correction for their number)."
        )
    for law in found.laws:
        groups = grouped(law.line.differences.items(), lambda pair: pair[1].verdict)
        parts = [f"{word} at {_rows([rows for rows, _ in some])}" for word, some in groups.items()]
        if not parts:
            continue
        text = f"{_named(law, found)} compared with {found.axes.baseline}: {_joined(parts)}"
        rows, first = next(iter(law.line.differences.items()))
        text += f"; at {rows:,} rows its error is {abs(first.relative):.0%} {_side(first.mean)}"
        equal = next((one for one in law.equal if one.at == rows), None)
        yield f"{text}{'' if equal is None else f', {_worth(equal, law, found)}'}."


def slopes(found: Summary) -> Iterator[str]:
    """Yield in one sentence for each figure whose error falls with rows otherwise than that of the baseline."""
    known = [law for law in found.laws if math.isfinite(law.slope.exponent)]
    for place, laws in grouped(known, lambda law: law.line.place).items():
        other = [law for law in laws if law.difference.interval.leaves_zero_out]
        parts = [f"that of {found.named(law.line.mode, law.line.source)} is {steepness(law)}" for law in other]
        rest = "no slope" if not other else "no other slope"
        text = f"{rest} can be told from that of {found.axes.baseline}."
        where = place.target if place.split == "random" else f"{place.target} ({place.split})"
        yield f"{where}: {_joined(parts)}; {text}" if parts else f"{where}: {text}"


def steepness(law: Law) -> str:
    """Return in words how the slope of a mode differs from that of the baseline."""
    if not law.difference.interval.leaves_zero_out:
        return "not told apart"
    return "less steep" if law.difference.exponent > 0 else "steeper"


def two_slopes(law: SourceLaw) -> str:
    """Return in words whether the error falls with the rows of the pretraining as with those of the target."""
    one, other = law.slope.interval, law.of_target.interval
    if not (math.isfinite(one.low) and math.isfinite(other.low)):
        return "not known"
    return "not told apart" if one.low <= other.high and other.low <= one.high else "differ"


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


def rows_equal(equal: Equal | None, sizes: Sequence[int]) -> str:
    """Return the rows of the baseline that equal a mode, with their interval; ``sizes`` are those of the baseline."""
    if equal is None:
        return "-"
    low, high = (_count(end, sizes) for end in equal.interval)
    return _count(equal.rows, sizes) + (f" [{low}, {high}]" if math.isfinite(equal.interval.low) else "")


def planned() -> str:
    """Return the header of the planning figure."""
    return f"draws for {PLANNED:.0%}"


def _worth(equal: Equal, law: Law, found: Summary) -> str:
    sizes = list(found.baselines[law.line.place].errors)
    if math.isinf(equal.rows):
        return f"which {found.axes.baseline} does not reach with {max(sizes):,} rows"
    if not equal.rows:
        return f"more than that of {found.axes.baseline} with {min(sizes):,} rows"
    return f"which {found.axes.baseline} reaches with {rows_equal(equal, sizes)} rows"


def _count(rows: float, sizes: Sequence[int]) -> str:
    return f"> {max(sizes):,}" if math.isinf(rows) else f"< {min(sizes):,}" if not rows else f"{rows:,.0f}"


def exponent(slope: Slope) -> str:
    """Return the exponent of a power law with its interval; a dash if there are too few sizes for one."""
    if not math.isfinite(slope.exponent):
        return "-"
    text = f"{slope.exponent:.2f}"
    ends = slope.interval
    return f"{text} [{ends.low:.2f}, {ends.high:.2f}]" if math.isfinite(ends.low) else text


def _named(law: Law, found: Summary) -> str:
    place = law.line.place
    split = "" if place.split == "random" else f" ({place.split})"
    return f"{place.target}{split}: {found.named(law.line.mode, law.line.source)}"


def _side(difference: float) -> str:
    return "lower" if difference < 0 else "higher"


def _rows(sizes: Sequence[int]) -> str:
    return f"{_joined([f'{size:,}' for size in sizes])} rows"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def cells(n: int) -> str:
    """Return a number of cells in words."""
    return plural(n, "cell")
