"""The two figures of a class: how often each is taken for each (confusion), and whether probabilities come true.

They take plain numbers and write what the figures in ``plots`` write; ``plot_style`` has their look.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tltool.plot_style import INK, Where, canvas

_LONGEST = 14  # letters of a class on an axis
_MOST_PRINTED = 12  # classes whose numbers fit into their cells
_BLUE = "#0072b2"


def confusion(where: Where, counts: Sequence[Sequence[int]], names: Sequence[str], title: str) -> None:
    """Draw how many rows of each class (a line each, from the top) are predicted to be of each class (k, k).

    The colour of a cell is its share of its line.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    table = np.asarray(counts, float)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    words = [name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names]
    size = 2.6 + 0.42 * min(len(names), 20)
    with canvas(where, (size + 0.6, size)) as (_, axes):
        axes.imshow(shares, cmap=ListedColormap(colormaps["Blues"](np.linspace(0.04, 0.9, 256))), vmin=0, vmax=1)
        if len(names) <= _MOST_PRINTED:
            for i, row in enumerate(table):
                for j, n in enumerate(row):
                    ink = "white" if shares[i, j] > 0.55 else "#23282e"
                    text = f"{int(n):,}\n{shares[i, j]:.0%}" if row.sum() else "0"
                    axes.text(j, i, text, ha="center", va="center", fontsize=8.5, color=ink)
        axes.set_xticks(range(len(names)), words, rotation=30 if max(map(len, words)) > 5 else 0, ha="right")
        axes.set_yticks(range(len(names)), words)
        axes.grid(visible=False)
        axes.set(xlabel="predicted", ylabel="label", title=title)
        axes.tick_params(length=0)


def calibration(where: Where, tenths: Sequence[Mapping[str, float]], title: str) -> None:
    """Draw how often what was predicted with a probability came true; ``tenths`` are those of ``metrics.calibration``.

    The area of a point grows with the number of probabilities that it stands for.
    """
    predicted, observed, n = (np.array([one[key] for one in tenths], float) for key in ("predicted", "observed", "n"))
    with canvas(where, (4.6, 4.8)) as (_, axes):
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (5, 3)), zorder=1)
        axes.plot(predicted, observed, color=_BLUE, linewidth=1.2, zorder=2)
        axes.scatter(predicted, observed, s=14 + 90 * n / max(n.max(initial=1.0), 1.0), color=_BLUE, zorder=3)
        for x, y, count in zip(predicted, observed, n, strict=True):
            axes.annotate(f"{int(count):,}", (x, y), (5, -11), textcoords="offset points", fontsize=7.5)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), box_aspect=1, title=title)
        axes.set(xlabel="predicted probability", ylabel="how often it came true")
