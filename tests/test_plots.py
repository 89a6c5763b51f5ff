import io
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tltool import elements, plot_style, plots
from tltool.errors import DataError


def size_of(buffer: io.BytesIO) -> tuple[int, int]:
    image = Image.open(buffer)
    assert image.format == "PNG"
    return image.size


def colours_of(buffer: io.BytesIO) -> set[tuple[int, ...]]:
    image = Image.open(buffer).convert("RGB")
    return {colour for _, colour in image.getcolors(image.width * image.height)}


def test_parity_writes_a_square_picture_to_a_path(tmp_path):
    x = np.linspace(0, 2, 30)
    plots.parity(tmp_path / "p.png", x, x + 0.1, ["train", "val", "test"] * 10, "eV", "gap", "gap")
    width, height = size_of(io.BytesIO((tmp_path / "p.png").read_bytes()))
    assert 0.85 < width / height < 1.15


@pytest.mark.parametrize(
    ("label", "prediction"),
    [([], []), ([math.nan, 1.0], [1.0, math.inf]), ([1.0], [1.0]), ([0.0, 0.0], [0.0, 0.0]), ([1.0, 2.0], [1e9, -1e9])],
)
def test_parity_takes_awkward_numbers(label, prediction):
    buffer = io.BytesIO()
    plots.parity(buffer, label, prediction, ["test"] * len(label), "eV", "a $title$ with <odd> & signs$")
    assert size_of(buffer)


def test_parity_gives_the_mae_of_the_test_rows_alone(monkeypatch):
    labels = legend_of(monkeypatch, plots.parity, [0, 0, 0.0], [1, 0.25, 0.75], ["train", "test", "test"], "eV", "t")
    assert labels == ["train: n = 1", "test: MAE 0.500 eV, n = 2"]


def legend_of(monkeypatch, picture, *given):
    from matplotlib.figure import Figure

    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: seen.append(figure))
    picture(io.BytesIO(), *given)
    return [text.get_text() for text in seen[0].axes[0].get_legend().get_texts()]


def test_parity_test_rows_lie_on_top(monkeypatch):
    from matplotlib.figure import Figure

    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: seen.append(figure))
    plots.parity(io.BytesIO(), [1, 2, 3.0], [1, 2, 3.0], ["test", "train", "val"], "eV", "t")
    axes = seen[0].axes[0]
    order = [c.get_zorder() for c in axes.collections if len(c.get_offsets())]
    assert order == sorted(order)
    assert len(set(order)) == 3
    assert axes.get_xlim() == axes.get_ylim()
    assert "(eV)" in axes.get_xlabel()
    assert "(eV)" in axes.get_ylabel()


@pytest.mark.parametrize(
    "curves",
    [{}, {"a": []}, {"a": [(1, 0.5)]}, {"a": [(1, 0.5), (2, math.nan), (3, 0.1)], "b": [(1, 0.0)]}, {"a": [(1, -1.0)]}],
)
def test_learning_curves_take_awkward_curves(curves):
    buffer = io.BytesIO()
    plots.learning_curves(buffer, curves, "eV", "t")
    assert size_of(buffer)


def test_learning_curves_and_sizes_keep_given_colours():
    colours = {"a": "#123456", "b": "#fedcba"}
    first, second = io.BytesIO(), io.BytesIO()
    plots.learning_curves(first, {"b": [(1, 1.0), (9, 0.5)]}, "eV", "t", colours=colours)
    plots.sizes(second, {"b": [(10, 1.0, 0.1), (100, 0.5, math.nan)]}, "eV", "t", colours=colours)
    for buffer in (first, second):
        assert (0xFE, 0xDC, 0xBA) in colours_of(buffer)
        assert (0x12, 0x34, 0x56) not in colours_of(buffer)


def test_sizes_takes_one_seed_and_a_deviation_above_the_mean():
    buffer = io.BytesIO()
    plots.sizes(buffer, {"scratch": [(100, 0.2, math.nan), (50, 0.3, 0.5)], "freeze": [(50, 0.1, 0.0)]}, "eV", "t")
    assert size_of(buffer)


def test_each_element_has_its_own_place():
    places = plots._places()
    assert len(places) == 118
    assert len({place[:2] for place in places.values()}) == 118
    assert places["H"][:2] == (1, 1)
    assert places["O"][:2] == (16, 2)
    assert places["Lu"][:2] == (3, 6)
    assert places["La"][1] > 7
    assert places["U"][1] == places["La"][1] + 1
    assert max(place[0] for place in places.values()) == 18


@pytest.mark.parametrize("values", [{}, {"O": 0.0, "Ti": math.nan}, {"Fe": 123.4, "U": 0.001}])
def test_periodic_table_takes_awkward_values(values):
    buffer = io.BytesIO()
    plots.periodic_table(buffer, values, "eV", "t", counts=dict.fromkeys(values, 3))
    assert size_of(buffer)


def test_periodic_table_of_every_element_and_of_an_unknown_one():
    every = {elements.symbol(number): number / 100 for number in range(1, 119)}
    buffer = io.BytesIO()
    plots.periodic_table(buffer, every, "eV", "t")
    assert size_of(buffer)
    with pytest.raises(DataError, match="'Xx' is not the symbol"):
        plots.periodic_table(io.BytesIO(), {"Xx": 1.0}, "eV", "t")


def test_same_numbers_give_the_same_bytes():
    first, second = io.BytesIO(), io.BytesIO()
    for buffer in (first, second):
        plots.parity(buffer, [1, 2.0], [2, 1.0], ["test", "test"], "eV", "t")
    assert first.getvalue() == second.getvalue()


@pytest.mark.parametrize(("value", "decimals"), [(0.0831, 4), (1.5, 2), (15.0, 1), (1500.0, 0), (0, 3), (math.nan, 3)])
def test_decimals_show_three_digits(value, decimals):
    assert plot_style.decimals(value) == decimals


def test_importing_plots_does_not_import_matplotlib():
    code = "import sys, tltool.plots; print('matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_both_gives_the_same_figure_as_png_and_as_svg_without_a_background():
    files = plot_style.Both(io.BytesIO(), io.BytesIO())
    plots.parity(files, [1, 2.0], [2, 1.0], ["test", "test"], "eV", "t")
    again = plot_style.Both(io.BytesIO(), io.BytesIO())
    plots.parity(again, [1, 2.0], [2, 1.0], ["test", "test"], "eV", "t")
    assert size_of(files.png)
    assert files.svg.getvalue() == again.svg.getvalue()
    text = files.svg.getvalue().decode()
    assert plot_style.INK in text
    assert "#ffffff" not in text


def test_a_figure_is_laid_out_once_and_drawn_once_for_each_file(monkeypatch):
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    done = []
    draw, execute = Figure.draw, ConstrainedLayoutEngine.execute
    monkeypatch.setattr(Figure, "draw", lambda *given: done.append("drawn") or draw(*given))
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *given: done.append("laid out") or execute(*given))
    plots.parity(plot_style.Both(io.BytesIO(), io.BytesIO()), [1, 2.0], [2, 1.0], ["test", "test"], "eV", "t")
    assert done == ["laid out", "drawn", "drawn"]


def test_names_of_axes_are_within_the_picture():
    """The layout is that of matplotlib, which makes room for them."""
    buffer = io.BytesIO()
    plots.parity(buffer, [1e5, 2e5], [2e5, 1e5], ["test", "test"], "eV", "t")
    ink = np.asarray(Image.open(buffer).convert("L")) < 200
    rim = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    assert not rim.any()
    assert ink[:, :40].any(), "the name of the vertical axis stands there"


def test_cells_of_elements_are_drawn_in_one_order(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "_cell", lambda axes, symbol, *given, **named: drawn.append(symbol))
    plots.periodic_table(io.BytesIO(), {"O": 0.1, "H": 0.2}, "eV", "t")
    assert drawn == ["O", "H", *(symbol for symbol in elements.places() if symbol not in ("O", "H"))]


def axes_of(monkeypatch, picture, *given, **named):
    from matplotlib.figure import Figure

    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: seen.append(figure))
    picture(io.BytesIO(), *given, **named)
    return seen[0].axes[0]


def test_given_ends_are_those_of_both_axes(monkeypatch):
    axes = axes_of(monkeypatch, plots.parity, [1, 2.0], [2, 1.0], ["test", "test"], "eV", "t", ends=(-3, 7))
    assert axes.get_xlim() == axes.get_ylim() == (-3, 7)


def test_a_ring_marks_the_kept_epoch(monkeypatch):
    lines = {"a": [(1, 1.0), (2, 0.5), (3, 0.7)], "b": [(1, 2.0)]}
    axes = axes_of(monkeypatch, plots.learning_curves, lines, "eV", "t", kept={"a": 2, "b": 9})
    rings = [
        line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata()) == 1
    ]
    assert [[2.0, 0.5]] in rings
    assert len(rings) == 2  # the other is the single epoch of b


def test_an_element_of_few_crystals_is_hatched_and_sets_no_colour(monkeypatch):
    errors = {"Li": 0.1, "Na": 0.2, "K": 0.3, "Rb": 0.4, "Cs": 99.0}
    axes = axes_of(monkeypatch, plots.periodic_table, errors, "eV", "t", counts=dict.fromkeys(errors, 3) | {"Cs": 2})
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    assert len(hatched) == 1
    (colours,) = axes.child_axes
    assert colours.get_xlim()[1] < 1


def test_the_summary_has_a_point_for_each_mode_and_fills_the_sure_ones(monkeypatch):
    bars = [plots.Bar("scratch", 0.5, 0.1, False), plots.Bar("finetune", 0.4, math.nan, True)]
    bars.append(plots.Bar("freeze", 0.6, 0.1, False))
    colours = plot_style.palette([bar.name for bar in bars])
    axes = axes_of(monkeypatch, plots.summary, {"one": bars, "two": bars[:1]}, "t", colours)
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert [round(float(line.get_xdata()[0]), 3) for line in points] == [0.5, 0.4, 0.6, 0.5]
    assert [line.get_markerfacecolor() != "none" for line in points] == [True, True, False, True]


@given(st.floats(-9, 9), st.floats(0.002, 12))
def test_a_logarithmic_axis_has_from_three_to_ten_round_ticks(start, decades):
    low, high = 10.0**start, 10.0 ** (start + decades)
    ticks = plot_style.log_ticks(low, high)
    assert 3 <= len(ticks) <= 10
    assert ticks == sorted(ticks)
    assert low * (1 - 1e-9) <= ticks[0]
    assert ticks[-1] <= high * (1 + 1e-9)


def test_ticks_of_errors_are_as_a_reader_would_choose_them():
    assert plot_style.log_ticks(0.95, 1.7) == pytest.approx([1, 1.2, 1.4, 1.6])
    assert plot_style.log_ticks(0.03, 0.3) == pytest.approx([0.03, 0.05, 0.07, 0.1, 0.2, 0.3])
