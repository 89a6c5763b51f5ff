"""The statistics of a study as plain values: curves of error against rows, differences, slopes, equal rows, claims."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from tltool.study import power_laws
from tltool.study.axes import Axes, Claim
from tltool.study.differences import Difference, compare
from tltool.study.power_laws import Curve, Equal, Slope
from tltool.study.table import Row


class Place(NamedTuple):
    """What curves of one figure share: target, kind of split and quantity, and the unit of its error."""

    target: str
    split: str
    quantity: str
    unit: str
    metric: str


class Line(NamedTuple):
    """The errors of one mode and source in a place: {rows: errors of the draws}, and its difference at each size."""

    place: Place
    mode: str
    source: str
    errors: Curve
    differences: Mapping[int, Difference]

    def spread(self, rows: int) -> float:
        """Return the standard deviation between draws; NaN of one."""
        return stdev(self.errors[rows]) if len(self.errors[rows]) > 1 else math.nan


class Law(NamedTuple):
    """How the error of a line falls with rows, beside the baseline's, and which rows of the baseline equal it."""

    line: Line
    slope: Slope
    baseline: Slope
    difference: Slope
    equal: tuple[Equal, ...]


class SourceLaw(NamedTuple):
    """How the error at ``size`` target rows falls with the rows of the pretraining, and with target rows."""

    place: Place
    mode: str
    family: str
    size: int
    slope: Slope
    of_target: Slope


class Judged(NamedTuple):
    """A claim, what the differences say of it, and those differences."""

    claim: Claim
    verdict: str
    found: tuple[Difference, ...]


class Summary(NamedTuple):
    """All statistics of a study; ``baselines`` are the lines of the baseline, ``lines`` those of the other modes."""

    axes: Axes
    baselines: Mapping[Place, Line]
    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]
    laws: tuple[Law, ...]
    source_laws: tuple[SourceLaw, ...]
    claims: tuple[Judged, ...]

    def source_of(self, mode: str, source: str) -> str:
        """Return ``source``; a dash for a mode that takes nothing of it."""
        return "-" if any(one.once and one.name == mode for one in self.axes.modes) else source

    def named(self, mode: str, source: str) -> str:
        """Return the words for a mode: with its source where there are several, and it takes something of them."""
        alone = len(self.axes.sources) == 1 or self.source_of(mode, source) == "-"
        return mode if alone else f"{mode} from {source}"


def summarise(axes: Axes, rows: Sequence[Row]) -> Summary:
    """Return the statistics of the finished cells ``rows``."""
    differences = compare(rows, axes.baseline)
    lines = list(_lines(rows, differences))
    baselines = {line.place: line for line in lines if line.mode == axes.baseline}
    others = [line for line in lines if line.mode != axes.baseline]
    laws = [_law(line, baselines[line.place]) for line in others if line.place in baselines]
    return Summary(
        axes,
        baselines,
        tuple(others),
        tuple(differences),
        tuple(laws),
        tuple(_source_laws(axes, others)),
        tuple(_judged(claim, differences) for claim in axes.claims),
    )


def _lines(rows: Sequence[Row], differences: Sequence[Difference]) -> Iterator[Line]:
    found: dict[tuple[Place, str, str], dict[int, list[float]]] = {}
    sizes: dict[tuple[Place, str, str], dict[int | None, int]] = {}
    for row in sorted(rows, key=lambda row: row.cell.draw):
        kind = row.cell.kind
        if not math.isfinite(row.error) or row.run.train_size is None:
            continue
        key = (Place(kind.target, kind.split, row.quantity, row.unit, row.metric), kind.mode, kind.source)
        # A split by groups meets a size only about; its draws count as one size.
        at = sizes.setdefault(key, {}).setdefault(kind.size, kind.size or row.run.train_size)
        found.setdefault(key, {}).setdefault(at, []).append(row.error)
    for (place, mode, source), errors in found.items():
        own = {
            sizes[place, mode, source][one.kind.size]: one
            for one in differences
            if (one.kind.target, one.kind.split, one.quantity) == place[:3]
            and (one.kind.mode, one.kind.source) == (mode, source)
        }
        yield Line(place, mode, source, dict(sorted(errors.items())), dict(sorted(own.items())))


def _law(line: Line, baseline: Line) -> Law:
    shared = {rows: errors for rows, errors in baseline.errors.items() if rows in line.errors}
    equal = [power_laws.equal_rows(line.errors, baseline.errors, rows) for rows in line.errors]
    return Law(
        line,
        power_laws.slope(line.errors),
        power_laws.slope(shared),
        power_laws.slope_difference({rows: line.errors[rows] for rows in shared}, shared),
        tuple(one for one in equal if one is not None),
    )


def _source_laws(axes: Axes, lines: Sequence[Line]) -> Iterator[SourceLaw]:
    sources = {source.name: source for source in axes.sources}
    once = {mode.name for mode in axes.modes if mode.once}
    groups: dict[tuple[Place, str, str], list[Line]] = {}
    for line in lines:
        if line.mode not in once and sources[line.source].rows is not None:
            groups.setdefault((line.place, line.mode, sources[line.source].family), []).append(line)
    for (place, mode, family), some in groups.items():
        if len(some) < 2:
            continue
        largest = max(some, key=lambda line: sources[line.source].rows or 0)
        for size in sorted(set.intersection(*(set(line.errors) for line in some))):
            curve = {sources[line.source].rows or 0: line.errors[size] for line in some}
            yield SourceLaw(place, mode, family, size, power_laws.slope(curve), power_laws.slope(largest.errors))


def _judged(claim: Claim, differences: Sequence[Difference]) -> Judged:
    """Return what the study says of a claim: it needs one comparison that settles it, and none that speaks against."""
    found = [one for one in differences if _is_of(claim, one)]
    for_it, against = ("better", "worse") if claim.lower else ("worse", "better")
    words = [one.verdict for one in found]
    if for_it in words and against not in words:
        verdict = "reproduced" if words.count(for_it) == len(words) else "reproduced in part"
    else:
        verdict = "not reproduced" if against in words else "not at this size"
    return Judged(claim, verdict, tuple(found))


def _is_of(claim: Claim, one: Difference) -> bool:
    kind = one.kind
    asked = (claim.mode, claim.source or kind.source, claim.target or kind.target, claim.size or kind.size)
    return asked == (kind.mode, kind.source, kind.target, kind.size)


def mean_relative(found: Sequence[Difference]) -> float:
    """Return the mean of relative differences; NaN of none."""
    return fmean(one.relative for one in found) if found else math.nan
