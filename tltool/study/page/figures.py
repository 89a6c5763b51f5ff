"""The figures of a study: test error against training rows, a panel for each target and kind of split."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tltool.plot_style import INKS, Both, Where, canvas, curve_style, plain_log_axis, with_alpha
from tltool.reporting.comparable import grouped
from tltool.reporting.render.blocks import Picture
from tltool.study.summary import Line, Summary

_LIGHT = {"ink": "#24292f", "dim": "#57606a", "edge": "#8a9199", "grid": "#e6e9ec", "pale": "#c4c9cf", "rim": "#d5d9dd"}
_DARK = {"ink": "#e6edf3", "dim": "#9da7b1", "edge": "#6e7781", "grid": "#30363d", "pale": "#484f58", "rim": "#30363d"}
_WIDE = 18  # letters of a name, with more of which three do not stand beside each other
_LINE = 0.22  # inches of a line of the legend
_MOST = 8  # curves in a panel; of more sources and modes each mode has a panel of its own


class Points(NamedTuple):
    """A curve of a panel: its name, and for each size rows, mean error, standard deviation, and whether it is settled.

    The standard deviation is over draws, NaN of one. ``settled``: the interval of the difference to the baseline leaves
    zero out.
    """

    name: str
    rows: Sequence[int]
    mean: Sequence[float]
    spread: Sequence[float]
    settled: Sequence[bool]


def pictures(found: Summary) -> Iterator[Picture]:
    """Yield a panel for each place, of many curves one for each mode in it."""
    for place, lines in grouped(found.lines, lambda line: line.place).items():
        if place not in found.baselines:
            continue
        parts = grouped(lines, lambda line: line.mode) if len(lines) > _MOST else {"": lines}
        for mode, some in parts.items():
            title = (
                f"{place.target}{'' if place.split == 'random' else f', {place.split}'}{f', {mode}' if mode else ''}"
            )
            curves = [points(found.baselines[place], found.axes.baseline)]
            curves += [points(line, found.named(line.mode, line.source)) for line in some]
            what = f"test {place.metric} ({place.unit})" if place.unit else f"test {place.metric}"
            files = Both(io.BytesIO(), io.BytesIO())
            panel(files, curves, what, title)
            caption = (
                f"{place.quantity}: {what} against training rows; band: standard deviation over draws; filled: the "
                f"95 % interval of the difference to {found.axes.baseline} leaves zero out"
            )
            yield Picture(title, files.png.getvalue(), files.svg.getvalue().decode(), caption, "half")


def panel(where: Where, curves: Sequence[Points], what: str, title: str) -> None:
    """Draw error against rows on logarithmic axes; the first of ``curves`` is the baseline, in grey."""
    columns = 2 if max(len(curve.name) for curve in curves) > _WIDE else 3
    legend = math.ceil(len(curves) / columns) * _LINE
    with canvas(where, (5.6, 3.9 + legend)) as (figure, axes):
        axes.set(xscale="log", yscale="log", xlabel="training rows", ylabel=what, title=title)
        ticks = sorted({rows for curve in curves for rows in curve.rows})
        for k, curve in enumerate(curves):
            # Curves of one size stand beside each other, as they have no length.
            _draw(axes, curve, k, beside=1.05 ** (k - (len(curves) - 1) / 2) if len(ticks) == 1 else 1.0)
        plain_log_axis(axes, "x")
        plain_log_axis(axes, "y")
        if len(ticks) == 1:  # without a width matplotlib would have to choose one
            axes.set_xlim(ticks[0] / 1.5, ticks[0] * 1.5)
        if len(ticks) <= 8:
            axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
            axes.minorticks_off()
        figure.legend(loc="outside lower center", ncols=columns, fontsize=8.5, handlelength=2.6)


def _draw(axes: Any, curve: Points, k: int, *, beside: float) -> None:
    """Draw curve ``k`` with its band, and a filled marker where the difference to the baseline is settled.

    Its rows are multiplied by ``beside``.
    """
    rows = beside * np.asarray(curve.rows, float)
    style = curve_style(k) | {"markersize": 6, "linewidth": 1.7}
    colour = style["color"]
    mean, spread = np.asarray(curve.mean, float), np.nan_to_num(np.asarray(curve.spread, float))
    band = [np.maximum(mean - spread, 0.1 * mean), mean + spread]
    if len(mean) > 1:
        axes.fill_between(rows, *band, color=with_alpha(colour, 0.10), linewidth=0)
    else:  # a band of one size has no area
        axes.vlines(rows, *band, color=with_alpha(colour, 0.5), linewidth=4)
    axes.plot(rows, mean, label=curve.name, markerfacecolor="none" if k else colour, **style)
    sure = [at for at, is_settled in enumerate(curve.settled) if is_settled]
    axes.plot(rows[sure], mean[sure], **style | {"linestyle": "none"})


def points(line: Line, name: str) -> Points:
    """Return the curve of ``line``, called ``name``."""
    settled = [rows in line.differences and line.differences[rows].over_draws.leaves_zero_out for rows in line.errors]
    means = [float(np.mean(errors)) for errors in line.errors.values()]
    return Points(name, list(line.errors), means, [line.spread(rows) for rows in line.errors], settled)


def of_two_grounds(svg: str) -> str:
    """Return an SVG whose inks follow the reader's choice of light or dark, as a file of its own."""
    sheets = [";".join(f"--{name}:{colour}" for name, colour in inks.items()) for inks in (_LIGHT, _DARK)]
    style = f"<style>svg{{{sheets[0]}}}@media(prefers-color-scheme:dark){{svg{{{sheets[1]}}}}}</style>"
    for colour, name in INKS.items():
        svg = svg.replace(colour, f"var(--{name})")
    at = svg.index(">", svg.index("<svg")) + 1
    return svg[:at] + style + svg[at:]


def write(shown: Sequence[Picture], folder: Path) -> None:
    """Write each figure as an SVG of its own to ``folder``."""
    folder.mkdir(exist_ok=True)
    for picture in shown:
        name = re.sub("[^A-Za-z0-9]+", "_", picture.name).strip("_")
        (folder / f"{name}.svg").write_text(of_two_grounds(picture.svg), encoding="utf-8")
