"""The look of every figure: colours, canvas, axes, and the writing of it as PNG, as SVG, or as both.

matplotlib is imported when a figure is drawn, through its object API: no window system and no global state. The colours
of Okabe and Ito (https://jfly.uni-koeln.de/color/) can be distinguished by colour-blind readers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from os import PathLike
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Both(NamedTuple):
    """Two files in memory, one for the figure as PNG and one for it as SVG without a background."""

    png: BytesIO
    svg: BytesIO


Where = str | PathLike[str] | IO[bytes] | Both
Colour = tuple[float, float, float, float]
Values = Sequence[float] | npt.NDArray[np.floating[Any]]

INK, PALE, RIM = "#24292f", "#c4c9cf", "#d5d9dd"
COLOURS = ("#5b6470", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("s", "o", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so a picture looks the same everywhere
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 9,
    "axes.edgecolor": "#8a9199",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e6e9ec",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,  # a "$" in a name is a dollar
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "tltool",  # names in an SVG, so that the same numbers give the same bytes
}


INKS = {INK: "ink", "#57606a": "dim", "#8a9199": "edge", "#e6e9ec": "grid", PALE: "pale", RIM: "rim"}
"""The colours that depend on the background, by what they are for: a page in the dark gives them other values."""


def palette(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each of ``names``, so that several pictures can give one name the same colour."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def curve_style(k: int) -> dict[str, Any]:
    """Return colour, dashes and marker of curve ``k`` of a panel; curve 0, the baseline, is grey, and alone in it.

    No two of the first 24 curves after it look the same: when all colours are used, other dashes begin.
    """
    others = COLOURS[1:]
    colour = COLOURS[0] if k == 0 else others[(k - 1) % len(others)]
    dashes = DASHES[max(k - 1, 0) // len(others) % len(DASHES)]
    return {"color": colour, "linestyle": dashes, "marker": MARKERS[k % len(MARKERS)]}


def decimals(value: float, significant: int = 3) -> int:
    """Return how many decimals show ``value`` to ``significant`` digits, at most 6."""
    if not math.isfinite(value) or value == 0:
        return significant
    return min(6, max(0, significant - 1 - math.floor(math.log10(abs(value)))))


@contextmanager
def canvas(where: Where, inches: tuple[float, float]) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure of this size with one axes, and save it to ``where`` when the block ends."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(_STYLE):
        layout = ConstrainedLayoutEngine()
        figure = Figure(figsize=inches, dpi=160, layout=layout, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure, figure.add_subplot()
        # Once for both files: a figure that knows of its layout is laid out and drawn once more for each.
        layout.execute(figure)
        figure.set_layout_engine(None)
        # Without the name and version of the program, the same numbers give the same bytes.
        figure.savefig(where.png if isinstance(where, Both) else where, format="png", metadata={"Software": None})
        if isinstance(where, Both):
            for axes in figure.axes:
                axes.set_facecolor("none")
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(where.svg, format="svg", facecolor="none", metadata=nothing)


def limits(values: npt.NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Return the ends of an axis that shows ``values``, with a margin."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def log_ticks(low: float, high: float) -> list[float]:
    """Return 3 to 10 round values in the range of a logarithmic axis, ``low`` and ``high`` above 0.

    They are 1, 2, 3, 5 and 7 of each decade, fewer of them where the range has many decades, and multiples of a round
    step where it has less than one.
    """
    low, high = low * (1 - 1e-9), high * (1 + 1e-9)  # an end of the axis may be a tick, in spite of rounding
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for leading in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [n * 10.0**k for k in range(first, last + 1) for n in leading if low <= n * 10.0**k <= high]
        if len(found) <= 10:
            break
    if len(found) >= 3:
        return found[:: math.ceil(len(found) / 10)]
    step = next(s for k in range(first, first - 12, -1) for s in (5 * 10.0**k, 2 * 10.0**k, 10.0**k)
                if math.floor(high / s) - math.ceil(low / s) >= 2)  # fmt: skip
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def plain_log_axis(axes: Axes, name: str) -> None:
    """Label round values with plain numbers: errors seldom span the decades that powers of ten need."""
    from matplotlib.ticker import FuncFormatter, Locator, NullFormatter

    class Round(Locator):
        def __call__(self) -> list[float]:
            return self.tick_values(*sorted(axis.get_view_interval()))

        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            return log_ticks(vmin, vmax) if 0 < vmin < vmax < math.inf else []

    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(Round())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_beside(axes: Axes, n: int) -> None:
    """Put the legend of ``n`` lines beside the axes; say that there is nothing to show where there are none."""
    if n:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    else:
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", va="center")


def with_alpha(colour: str, alpha: float) -> Colour:
    """Return ``colour`` with the opacity ``alpha``."""
    from matplotlib.colors import to_rgba

    return to_rgba(colour, alpha)


def is_dark(colour: Colour) -> bool:
    """Say whether white print is easier to read on ``colour`` than dark print (WCAG 2.2 relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.225


def three(value: float) -> str:
    """Return ``value`` with three significant digits."""
    return f"{value:.{decimals(value)}f}"
