"""The four figures of tltool: parity, learning curves, error by element, error against training size.

They take plain numbers and write a PNG to a path or an open binary file; they know nothing of run folders. matplotlib
is imported when a figure is drawn, through its object API: no window system and no global state. The colours of Okabe
and Ito (https://jfly.uni-koeln.de/color/) can be distinguished by colour-blind readers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from os import PathLike
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tltool import elements
from tltool.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Where = str | PathLike[str] | IO[bytes]
Colour = tuple[float, float, float, float]
Values = Sequence[float] | npt.NDArray[np.floating[Any]]

_INK, _PALE = "#24292f", "#c4c9cf"
_COLOURS = ("#5b6470", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = ("s", "o", "^", "D", "v", "P", "X")
_PARTS = {"train": ("#b4bac1", 9), "val": ("#e69f00", 12), "test": ("#0072b2", 16)}
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so a picture looks the same everywhere
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlepad": 9,
    "axes.edgecolor": "#8a9199",
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e6e9ec",
    "grid.linewidth": 0.8,
    "text.color": _INK,
    "text.parse_math": False,  # a "$" in a name is a dollar
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def palette(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each of ``names``, so that several pictures can give one name the same colour."""
    return {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}


def decimals(value: float, significant: int = 3) -> int:
    """Return how many decimals show ``value`` to ``significant`` digits, at most 6."""
    if not math.isfinite(value) or value == 0:
        return significant
    return min(6, max(0, significant - 1 - math.floor(math.log10(abs(value)))))


def parity(
    path: Where, label: Values, prediction: Values, part: Sequence[str], unit: str, title: str, what: str = ""
) -> None:
    """Draw prediction against label, test rows on top.

    ``label`` and ``prediction`` (r,) are in ``unit``; rows where either is not finite are left out. ``part`` (r,) says
    train, val or test; ``what`` names the quantity on the axes. The legend gives the MAE of the test rows.
    """
    x, y, parts = np.asarray(label, float), np.asarray(prediction, float), np.asarray(part, str)
    known = np.isfinite(x) & np.isfinite(y)
    x, y, parts = x[known], y[known], parts[known]
    with _canvas(path, (4.6, 4.8)) as (_, axes):
        low, high = _limits(np.concatenate([x, y]))
        axes.plot([low, high], [low, high], color=_INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
        for layer, (name, (colour, size)) in enumerate(_PARTS.items()):
            of_part = parts == name
            n = int(of_part.sum())
            if not n:
                continue
            error = f"MAE {_three(float(np.abs(y - x)[of_part].mean()))} {unit}, " if name == "test" else ""
            alpha = float(np.clip(40 / math.sqrt(n), 0.15, 0.8))
            face = _with_alpha(colour, alpha)
            axes.scatter(
                x[of_part], y[of_part], s=size, color=[face], edgecolors="none", zorder=2 + layer, rasterized=True
            )
            # The legend's marker is opaque, whatever the density of the points asks for.
            axes.scatter([], [], s=22, color=colour, edgecolors="none", label=f"{name}: {error}n = {n:,}")
        if not len(x):
            axes.text(0.5, 0.5, "no labelled rows", transform=axes.transAxes, ha="center", va="center")
        axes.set(xlim=(low, high), ylim=(low, high), box_aspect=1, title=title)
        axes.locator_params(nbins=8)
        axes.set_xlabel(f"{what} label ({unit})".lstrip())
        axes.set_ylabel(f"{what} prediction ({unit})".lstrip())
        if len(x):
            above = (x < low + 0.65 * (high - low)) & (y > low + 0.8 * (high - low))
            below = (x > low + 0.35 * (high - low)) & (y < low + 0.2 * (high - low))
            emptier = above.sum() <= below.sum()
            axes.legend(loc="upper left" if emptier else "lower right", handletextpad=0.2, borderaxespad=0.3)


def learning_curves(
    path_or_buffer: Where,
    curves: Mapping[str, Sequence[tuple[int, float]]],
    unit: str,
    title: str,
    *,
    what: str = "validation MAE",
    colours: Mapping[str, str] | None = None,
) -> None:
    """Draw one line a name through its (epoch, error in ``unit``) points; points that are not finite leave a gap."""
    from matplotlib.ticker import MaxNLocator

    colours = colours or palette(list(curves))
    with _canvas(path_or_buffer, (6.6, 3.9)) as (_, axes):
        highest, positive = 0.0, True
        for i, (name, points) in enumerate(curves.items()):
            epochs, values = [p[0] for p in points], np.array([p[1] for p in points], float)
            # One epoch is no line: without a marker it would not be seen.
            marker = "o" if len(points) < 2 else None
            style = ("-", "--", ":")[i // len(_COLOURS) % 3]
            axes.plot(epochs, values, style, color=colours[name], linewidth=1.8, marker=marker, label=name)
            finite = values[np.isfinite(values)]
            highest = max(highest, float(finite.max(initial=0)))
            positive = positive and bool((finite > 0).all())
        if positive and highest > 0:
            axes.set_yscale("log")
            _plain_log_axis(axes, "y")
        axes.set(xlabel="epoch", ylabel=f"{what} ({unit})", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
        _legend_beside(axes, len(curves))


def sizes(
    path_or_buffer: Where,
    series: Mapping[str, Sequence[tuple[int, float, float]]],
    unit: str,
    title: str,
    *,
    colours: Mapping[str, str] | None = None,
) -> None:
    """Draw test MAE against training size, a line a mode, both axes logarithmic.

    A point is (number of training crystals, mean MAE, standard deviation), errors in ``unit``; a standard deviation
    that is not known is NaN and gets no bar.
    """
    colours = colours or palette(list(series))
    with _canvas(path_or_buffer, (6.6, 4.2)) as (_, axes):
        axes.set(xscale="log", yscale="log")
        ticks: set[int] = set()
        for i, (name, points) in enumerate(series.items()):
            n, mean, spread = np.array(sorted(points), float).reshape(-1, 3).T
            ticks |= {int(size) for size in n}
            axes.errorbar(
                # A hair's breadth apart, so that the bars of different modes do not hide each other.
                n * 1.012 ** (i - (len(series) - 1) / 2),
                mean,
                # A bar down to zero has no end on a logarithmic axis.
                yerr=[np.minimum(np.nan_to_num(spread), 0.9 * mean), np.nan_to_num(spread)],
                color=colours[name],
                marker=_MARKERS[i % len(_MARKERS)],
                markersize=5.5,
                linewidth=1.6,
                elinewidth=1.2,
                capsize=3,
                label=name,
            )
        _plain_log_axis(axes, "y")
        _plain_log_axis(axes, "x")
        if len(ticks) <= 8:
            axes.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
            axes.minorticks_off()
            _plain_log_axis(axes, "y")
        axes.set(xlabel="training crystals", ylabel=f"test MAE ({unit})", title=title)
        _legend_beside(axes, len(series))


def periodic_table(
    path_or_buffer: Where,
    values: Mapping[str, float],
    unit: str,
    title: str,
    *,
    counts: Mapping[str, int] | None = None,
) -> None:
    """Draw an error by element: a cell's colour and number are its value in ``unit``, its small print its count.

    ``values`` go by element symbol; an element that is absent, or whose value is not finite, is an empty cell.
    Raises DataError for a symbol that no element has.
    """
    unknown = sorted(set(values) - set(_places()))
    if unknown:
        raise DataError(f"{unknown[0]!r} is not the symbol of an element; look at the column elements of predictions.")
    known = {symbol: float(value) for symbol, value in values.items() if math.isfinite(value)}
    low, high = min(known.values(), default=0.0), max(known.values(), default=1.0)
    digits = decimals(float(np.median(list(known.values()))), 2) if known else 2
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    # The ends of the map are cut off: near white a cell would look empty, near black its print could not be read.
    colours = ListedColormap(colormaps["YlOrRd"](np.linspace(0.06, 0.92, 256)))
    norm = Normalize(low, high) if high > low else Normalize(low - 1, low + 1)
    with _canvas(path_or_buffer, (11.0, 6.1)) as (figure, axes):
        axes.set(xlim=(0.95, 19.05), ylim=(-10.45, -0.95), aspect="equal", title=title)
        axes.axis("off")
        for symbol, value in known.items():
            small_print = [f"{value:.{digits}f}", f"n={counts.get(symbol, 0)}" if counts is not None else ""]
            _cell(axes, symbol, colours(norm(value)), small_print)
        for symbol in set(_places()) - set(known):
            _cell(axes, symbol, None, [])
        if known:
            # The gap above the transition metals is the one place where a colour scale costs no room.
            bar_axes = axes.inset_axes((4.0, -2.45, 8.0, 0.32), transform=axes.transData)
            bar = figure.colorbar(ScalarMappable(norm, colours), cax=bar_axes, orientation="horizontal")
            bar.set_label(f"mean absolute error ({unit})", fontsize=9)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=8, length=2)
            if high == low:
                bar.set_ticks([low], labels=[_three(low)])
        else:
            axes.text(8, -2.3, "no labelled rows", ha="center", va="center")


def _cell(axes: Axes, symbol: str, colour: Colour | None, small_print: Sequence[str]) -> None:
    """Draw an element's cell with up to two lines of small print; without a colour it is a grey outline."""
    from matplotlib.patches import FancyBboxPatch

    column, row, number = _places()[symbol]
    x, y = column + 0.5, -row - 0.5
    ink = _PALE if colour is None else "white" if _is_dark(colour) else _INK
    shape = FancyBboxPatch((x - 0.46, y - 0.46), 0.92, 0.92, boxstyle="round,pad=0,rounding_size=0.07", linewidth=0.8)
    shape.set(facecolor=colour or "none", edgecolor="none" if colour else "#d5d9dd")
    axes.add_patch(shape)
    axes.text(x - 0.39, y + 0.38, str(number), fontsize=4.8, color=ink, va="top")
    height = y + 0.07 if small_print else y - 0.02
    axes.text(x, height, symbol, fontsize=11, color=ink, ha="center", va="center", weight="bold")
    for line, size, below in zip(small_print, (7, 4.8), (0.2, 0.375), strict=False):
        axes.text(x, y - below, line, fontsize=size, color=ink, ha="center", va="center")


@cache
def _places() -> dict[str, tuple[int, float, int]]:
    """Return {symbol: (column 1 to 18, row from the top, atomic number)}; the f block stands in two rows below."""
    places: dict[str, tuple[int, float, int]] = {}
    column_of_f = {6: 4, 7: 4}
    for symbol, (number, group, period, block) in elements.places().items():
        if block == "f":
            places[symbol] = (column_of_f[period], period + 2.35, number)
            column_of_f[period] += 1
        else:
            places[symbol] = (group, period, number)
    return places


@contextmanager
def _canvas(where: Where, inches: tuple[float, float]) -> Iterator[tuple[Figure, Axes]]:
    """Give a figure with one axes in the house style, and save it when the block ends."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=inches, dpi=160, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        yield figure, figure.add_subplot()
        # Without the name and version of the program, the same numbers give the same bytes.
        figure.savefig(where, format="png", metadata={"Software": None})


def _limits(values: npt.NDArray[np.floating[Any]]) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin


def _plain_log_axis(axes: Axes, name: str) -> None:
    """Label 1, 2 and 5 of each decade with plain numbers: errors seldom span the decades that powers of ten need."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend_beside(axes: Axes, n: int) -> None:
    if n:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    else:
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", va="center")


def _with_alpha(colour: str, alpha: float) -> Colour:
    from matplotlib.colors import to_rgba

    return to_rgba(colour, alpha)


def _is_dark(colour: Colour) -> bool:
    """Say whether white print is easier to read on ``colour`` than dark print (WCAG 2.2 relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.225


def _three(value: float) -> str:
    return f"{value:.{decimals(value)}f}"
