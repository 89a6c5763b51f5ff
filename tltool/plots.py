"""The five figures of tltool: summary, parity, learning curves, error by element, error against training size.

They take plain numbers and write a PNG to a path or an open binary file, or a PNG and an SVG to ``Both``; they know
nothing of run folders. ``plot_style`` has their look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tltool import elements
from tltool.errors import DataError
from tltool.plot_style import (
    COLOURS,
    DASHES,
    INK,
    MARKERS,
    PALE,
    RIM,
    Colour,
    Values,
    Where,
    canvas,
    decimals,
    is_dark,
    legend_beside,
    limits,
    palette,
    plain_log_axis,
    three,
    with_alpha,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PARTS = {"train": ("#b4bac1", 9), "val": ("#e69f00", 12), "test": ("#0072b2", 16)}
_PRINT = "#23282e"
"""Dark print on a coloured cell, which is the same on every page; INK changes with it."""
_FEW = 3
"""Below so many crystals, an element's error is one of chance: its cell is hatched and sets no colour."""


class Bar(NamedTuple):
    """One line of the summary: ``name`` of a mode, mean and standard deviation (NaN without) of its error.

    ``sure`` says that its difference to scratch is one that chance does not explain.
    """

    name: str
    mean: float
    spread: float
    sure: bool


def summary(where: Where, groups: Mapping[str, Sequence[Bar]], title: str, colours: Mapping[str, str]) -> None:
    """Draw the error of each mode as a point with its deviation, a block a group; 1 is that of the training mean.

    Errors are fractions of the error of the mean training label. A filled point is sure, an open one is not. A dotted
    line in each block stands where training from scratch does.
    """
    lines = sum(len(bars) + 1 for bars in groups.values())
    with canvas(where, (8.4, 1.1 + 0.27 * lines)) as (_, axes):
        at, names = 0.0, []
        for group, bars in groups.items():
            axes.text(0.0, -at, group, transform=axes.get_yaxis_transform(), weight="bold", va="center", fontsize=9)
            first, at = at + 1, at + 1
            for bar in bars:
                face = colours[bar.name] if bar.sure or bar.name == "scratch" else "none"
                point: Any = {"color": colours[bar.name], "markerfacecolor": face, "markersize": 6.5, "capsize": 3}
                axes.errorbar(bar.mean, -at, xerr=np.nan_to_num(bar.spread), fmt="o", linewidth=1.4, **point)
                names.append((-at, bar.name))
                at += 1
            for bar in bars:
                if bar.name == "scratch":
                    axes.plot([bar.mean] * 2, [-first + 0.5, -at + 0.5], ":", color=colours["scratch"], zorder=1)
        axes.set_yticks([y for y, _ in names], [name for _, name in names])
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="test error / that of always predicting the mean", title=title, ylim=(-at + 0.3, 0.7))
        axes.set_xlim(left=0)


def parity(
    path: Where,
    label: Values,
    prediction: Values,
    part: Sequence[str],
    unit: str,
    title: str,
    what: str = "",
    ends: tuple[float, float] | None = None,
) -> None:
    """Draw prediction against label, test rows on top.

    ``label`` and ``prediction`` (r,) are in ``unit``; rows where either is not finite are left out. ``part`` (r,) says
    train, val or test; ``what`` names the quantity on the axes. The legend gives the MAE of the test rows. ``ends`` are
    those of both axes, for figures that are to be compared; without, they follow from the rows.
    """
    x, y, parts = np.asarray(label, float), np.asarray(prediction, float), np.asarray(part, str)
    known = np.isfinite(x) & np.isfinite(y)
    x, y, parts = x[known], y[known], parts[known]
    with canvas(path, (4.6, 4.8)) as (_, axes):
        low, high = ends or limits(np.concatenate([x, y]))
        axes.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
        for layer, (name, (colour, size)) in enumerate(_PARTS.items()):
            of_part = parts == name
            n = int(of_part.sum())
            if not n:
                continue
            error = f"MAE {three(float(np.abs(y - x)[of_part].mean()))} {unit}, " if name == "test" else ""
            alpha = float(np.clip(40 / math.sqrt(n), 0.15, 0.8))
            face = with_alpha(colour, alpha)
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
    kept: Mapping[str, int] | None = None,
) -> None:
    """Draw one line a name through its (epoch, error in ``unit``) points; points that are not finite leave a gap.

    ``kept`` gives by name the epoch whose weights were kept, which a ring marks.
    """
    from matplotlib.ticker import MaxNLocator

    colours = colours or palette(list(curves))
    with canvas(path_or_buffer, (6.6, 3.9)) as (_, axes):
        highest, positive = 0.0, True
        for i, (name, points) in enumerate(curves.items()):
            epochs, values = [p[0] for p in points], np.array([p[1] for p in points], float)
            # One epoch is no line: without a marker it would not be seen.
            marker = "o" if len(points) < 2 else None
            style = DASHES[i // len(COLOURS) % len(DASHES)]
            axes.plot(epochs, values, style, color=colours[name], linewidth=1.8, marker=marker, label=name)
            if (epoch := (kept or {}).get(name)) in epochs:
                ring: Any = {"markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.6}
                axes.plot(epoch, values[epochs.index(epoch)], "o", color=colours[name], **ring)
            finite = values[np.isfinite(values)]
            highest = max(highest, float(finite.max(initial=0)))
            positive = positive and bool((finite > 0).all())
        if positive and highest > 0:
            axes.set_yscale("log")
            plain_log_axis(axes, "y")
        axes.set(xlabel="epoch", ylabel=f"{what} ({unit})", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
        legend_beside(axes, len(curves))


def sizes(
    path_or_buffer: Where,
    series: Mapping[str, Sequence[tuple[int, float, float]]],
    what: str,
    title: str,
    *,
    colours: Mapping[str, str] | None = None,
) -> None:
    """Draw a test error against training size, a line a mode, both axes logarithmic.

    A point is (number of training crystals, mean error, standard deviation); ``what`` names the error with its unit. A
    standard deviation that is not known is NaN and gets no bar.
    """
    colours = colours or palette(list(series))
    with canvas(path_or_buffer, (6.6, 4.2)) as (_, axes):
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
                marker=MARKERS[i % len(MARKERS)],
                markersize=5.5,
                linewidth=1.6,
                elinewidth=1.2,
                capsize=3,
                label=name,
            )
        plain_log_axis(axes, "y")
        plain_log_axis(axes, "x")
        if len(ticks) <= 8:
            axes.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
            axes.minorticks_off()
            plain_log_axis(axes, "y")
        axes.set(xlabel="training crystals", ylabel=f"test {what}", title=title)
        legend_beside(axes, len(series))


def periodic_table(
    path_or_buffer: Where,
    values: Mapping[str, float],
    unit: str,
    title: str,
    *,
    counts: Mapping[str, int] | None = None,
) -> None:
    """Draw an error by element: a cell's colour and number are its value in ``unit``, its small print its count.

    ``values`` go by element symbol; an element that is absent, or whose value is not finite, is an empty cell. The
    colours end at the 95th percentile of the elements with 3 crystals and more, so that one large error does not make
    all others look alike; the cell of an element with fewer is hatched. Raises DataError for a symbol that no element
    has.
    """
    unknown = sorted(set(values) - set(_places()))
    if unknown:
        raise DataError(f"{unknown[0]!r} is not the symbol of an element; look at the column elements of predictions.")
    known = {symbol: float(value) for symbol, value in values.items() if math.isfinite(value)}
    sure = [value for symbol, value in known.items() if counts is None or counts.get(symbol, 0) >= _FEW]
    seen = sure or list(known.values()) or [0.0, 1.0]
    low, high = min(seen), float(np.percentile(seen, 95)) if len(seen) > _FEW else max(seen)
    digits = decimals(float(np.median(list(known.values()))), 2) if known else 2
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    # The ends of the map are cut off: near white a cell would look empty, near black its print could not be read.
    colours = ListedColormap(colormaps["YlOrRd"](np.linspace(0.06, 0.92, 256)))
    norm = Normalize(low, high) if high > low else Normalize(low - 1, low + 1)
    with canvas(path_or_buffer, (11.0, 6.1)) as (figure, axes):
        axes.set(xlim=(0.95, 19.05), ylim=(-10.45, -0.95), aspect="equal", title=title)
        axes.axis("off")
        for symbol, value in known.items():
            small_print = [f"{value:.{digits}f}", f"n={counts.get(symbol, 0)}" if counts is not None else ""]
            few = counts is not None and counts.get(symbol, 0) < _FEW
            _cell(axes, symbol, colours(norm(value)), small_print, hatched=few)
        for symbol in _places():
            if symbol not in known:
                _cell(axes, symbol, None, [])
        for part in (*axes.patches, *axes.texts):
            part.set_in_layout(False)  # they lie within the axes, and to measure them takes a third of the time
        if known:
            # The gap above the transition metals is the one place where a colour scale costs no room.
            bar_axes = axes.inset_axes((4.0, -2.45, 8.0, 0.32), transform=axes.transData)
            above, below = max(known.values()) > high, min(known.values()) < low
            extend = ("both" if below else "max") if above else ("min" if below else "neither")
            mappable = ScalarMappable(norm, colours)
            bar = figure.colorbar(mappable, cax=bar_axes, orientation="horizontal", extend=extend)
            bar.set_label(f"mean absolute error ({unit})", fontsize=9)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=8, length=2)
            if high == low:
                bar.set_ticks([low], labels=[three(low)])
        else:
            axes.text(8, -2.3, "no labelled rows", ha="center", va="center")


def _cell(axes: Axes, symbol: str, colour: Colour | None, small_print: Sequence[str], *, hatched: bool = False) -> None:
    """Draw an element's cell with up to two lines of small print; without a colour it is a grey outline."""
    from matplotlib.patches import FancyBboxPatch

    column, row, number = _places()[symbol]
    x, y = column + 0.5, -row - 0.5
    ink = PALE if colour is None else "white" if is_dark(colour) else _PRINT
    shape = FancyBboxPatch((x - 0.46, y - 0.46), 0.92, 0.92, boxstyle="round,pad=0,rounding_size=0.07", linewidth=0.8)
    shape.set(facecolor=colour or "none", edgecolor="none" if colour else RIM)
    if hatched and colour is not None:
        shape.set(hatch="////", edgecolor=(1, 1, 1, 0.55) if is_dark(colour) else (0, 0, 0, 0.28), linewidth=0)
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
