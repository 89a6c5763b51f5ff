"""Our line beside those of Matbench's leaderboard, for all test crystals and for the seen and unseen ones."""

import pytest
from study_rows import row, summary_of

from tltool.data.matbench_folds import TASKS
from tltool.reporting.render.blocks import Grid, Paragraph
from tltool.study.page import leaderboard, seen
from tltool.study.table import Row


def folds(mode: str, errors: dict[int, float], task: str = "matbench_phonons") -> list[Row]:
    """Return the finished folds of a mode: fold k has k + 1 seen crystals and 9 unseen ones with twice the error."""
    made = []
    for k, error in errors.items():
        block = {"seen": {"n": k + 1, "MAE": error}, "unseen": {"n": 9, "MAE": 2 * error}}
        one = row(mode, 900, k, error, split="official", block=block)
        kind = one.cell.kind._replace(size=None)
        made.append(one._replace(cell=one.cell._replace(kind=kind), run=one.run._replace(fold=k, data=task)))
    return made


def grids(rows: list[Row]) -> list[Grid]:
    return [block for block in leaderboard.blocks(rows) if isinstance(block, Grid)]


def test_the_mean_of_the_folds_stands_among_the_lines_of_the_leaderboard() -> None:
    errors = {k: 30.0 + k for k in range(5)}
    [grid] = grids(folds("tuned", errors))
    names = [cells[0] for cells in grid.rows]
    assert names.index("leaderboard: coGN") < names.index("tltool: tuned from pbe")
    assert names.index("tltool: tuned from pbe") < names.index("leaderboard: MODNet v0.1.12")
    own = grid.rows[names.index("tltool: tuned from pbe")]
    # Crystals count alike: (30 + 2*31 + 3*32 + 4*33 + 5*34) / 15, and twice the mean of the folds.
    assert own[1:] == ["5", "32.0", f"{490 / 15:.1f}", "15", "64.0", "45"]
    [text] = [block.text for block in leaderboard.blocks(folds("tuned", errors)) if isinstance(block, Paragraph)]
    assert "doi:10.1038/s41524-020-00406-3" in text
    assert "936176d" in text


def test_only_folds_with_all_rows_of_a_task_have_a_line() -> None:
    assert grids([row("tuned", 100, 0, 0.1)]) == []
    assert grids(folds("tuned", {0: 1.0}, task="my_own")) == []
    [grid] = grids(folds("tuned", {0: 30.0, 1: 32.0}))
    assert ["tltool: tuned from pbe", "2", "31.0"] in [cells[:3] for cells in grid.rows]


def test_every_task_with_figures_is_one_of_matbench() -> None:
    assert set(leaderboard.FIGURES) <= set(TASKS)
    assert all(figures["dummy"] == max(figures.values()) for figures in leaderboard.FIGURES.values())


def test_seen_crystals_that_flatter_a_source_show_as_a_factor() -> None:
    rows = folds("tuned", {0: 0.1, 1: 0.1})
    [_, grid] = list(seen.blocks(summary_of(rows), rows))
    assert isinstance(grid, Grid)
    [cells] = grid.rows
    assert cells[5:] == ["0.100", "0.100", "2", "0.200", "9", "2.00"]
    assert pytest.approx(float(cells[-1])) == 2.0
