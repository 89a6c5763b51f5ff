"""How errors fall with training rows, and with the rows of the pretraining: sentences and tables of power laws."""

import math

from tltool.reporting.render.blocks import Block, Bullets, Grid, Paragraph
from tltool.study.page import wording
from tltool.study.summary import Summary

_SLOPE = (
    "The error is fitted by a power law of the training rows, error = a * rows^b; the exponent b is the slope of the "
    "line in the figure. In brackets is its 95 % interval over draws. The difference is the exponent of a mode minus "
    "that of {baseline}; where its interval has zero in it, the two slopes cannot be told apart."
)
_SOURCE_SLOPE = (
    "How the error falls with the crystals of the pretraining (source rows), and with those of the target (target "
    "rows): exponents as above. A pretraining was made once for each size, so that the interval leaves out its chance."
)


def blocks(found: Summary) -> list[Block]:
    """Return the slopes of a study with two sizes or more; nothing of one."""
    known = [law for law in found.laws if math.isfinite(law.slope.exponent)]
    if not known:
        return []
    rows = []
    for law in known:
        place, mode, source = law.line.place, law.line.mode, law.line.source
        cells = [place.target, place.split, mode, found.source_of(mode, source), wording.exponent(law.slope)]
        cells += [wording.exponent(law.baseline), wording.exponent(law.difference), wording.steepness(law)]
        rows.append(cells)
    header = ["target", "split", "mode", "source", "exponent", found.axes.baseline, "difference", "slope"]
    return [
        Paragraph(_SLOPE.format(baseline=found.axes.baseline)),
        Bullets(list(wording.slopes(found))),
        Grid(header, "llllrrrl", rows),
        *_source_slopes(found),
    ]


def _source_slopes(found: Summary) -> list[Block]:
    """Return how errors fall with the rows of a pretraining, beside how they fall with target rows."""
    rows = []
    for law in found.source_laws:
        cells = [law.place.target, law.place.split, law.mode, law.family, f"{law.size:,}", wording.exponent(law.slope)]
        rows.append([*cells, wording.exponent(law.of_target), wording.two_slopes(law)])
    header = ["target", "split", "mode", "source", "target rows", "over source rows", "over target rows", "slopes"]
    return [Paragraph(_SOURCE_SLOPE), Grid(header, "llllrrrl", rows)] if rows else []
