"""The panels of a study: no curve looks like another, and nothing lies on the curves."""

import io
from typing import Any

import pytest

from tltool.plot_style import Both
from tltool.study.page import figures
from tltool.study.page.figures import Points


def drawn(monkeypatch: pytest.MonkeyPatch, curves: list[Points]) -> Any:
    """Return the figure of a panel with ``curves``, laid out as in the file."""
    from matplotlib.figure import Figure

    seen: list[Any] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (seen.append(figure), save(figure, *a, **k))[1])
    figures.panel(Both(io.BytesIO(), io.BytesIO()), curves, "test MAE (eV)", "gaps")
    return seen[0]


def curves(n: int, sizes: tuple[int, ...] = (50, 100)) -> list[Points]:
    """Return ``n`` curves with errors between 1 and 1.7, less than a decade apart."""
    return [
        Points(
            f"finetune from e_form-{k}",
            sizes,
            [1.0 + 0.7 * k / n] * len(sizes),
            [0.05] * len(sizes),
            [True] * len(sizes),
        )
        for k in range(n)
    ]


@pytest.mark.parametrize("n", [2, 9, 20])
def test_no_two_curves_look_the_same(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    figure = drawn(monkeypatch, curves(n))
    lines = [line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == n


@pytest.mark.parametrize("n", [2, 9])
@pytest.mark.parametrize("sizes", [(50,), (50, 100)])
def test_the_legend_names_every_curve_and_covers_none(
    monkeypatch: pytest.MonkeyPatch, n: int, sizes: tuple[int, ...]
) -> None:
    figure = drawn(monkeypatch, curves(n, sizes))
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [curve.name for curve in curves(n)]
    assert figure.axes[0].get_legend() is None
    box, whole = legend.get_window_extent(), figure.bbox
    assert not box.overlaps(figure.axes[0].get_tightbbox())
    assert box.x0 >= whole.x0
    assert box.x1 <= whole.x1


def test_an_axis_of_less_than_a_decade_has_ticks_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = drawn(monkeypatch, curves(4)).axes[0]
    low, high = axes.get_ylim()
    assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) >= 3


def test_curves_of_one_size_stand_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = drawn(monkeypatch, curves(4, (50,)))
    lines = [line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")]
    assert len({float(line.get_xdata()[0]) for line in lines}) == 4
