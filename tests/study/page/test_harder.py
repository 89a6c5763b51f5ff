"""Materials beyond the range of the training labels: how many of them a model finds, and how far off it is."""

from pathlib import Path

import pytest
from study_rows import row, rows, summary_of

from tltool.reporting.render.blocks import Grid
from tltool.study.page import harder

HEADER = "id,split,quantity,label,prediction"


def written(folder: Path, lines: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "predictions.csv").write_text("\n".join([HEADER, *lines]))
    return folder


def predictions(*found: float) -> list[str]:
    """Return two training rows up to 2, two validation rows, and test rows of 3, 4 and 1 with predictions ``found``."""
    labels = {"v1": 1.0, "v2": 2.0, "t3": 3.0, "t4": 4.0, "t1": 1.0}
    made = [f"{name},{'val' if name[0] == 'v' else 'test'},gap,{label},{p}"
            for (name, label), p in zip(labels.items(), found, strict=True)]  # fmt: skip
    return ["a,train,gap,0.5,0.5", "b,train,gap,2.0,2.5", *made, "t9,test,gap,,9.0"]


def test_what_lies_above_the_training_labels_is_counted(tmp_path: Path) -> None:
    # Of the two largest predictions for held-out crystals, 2.4 is that of a crystal beyond the range and 3.0 is not.
    run = row("tuned", 2, 0, 0.1, folder=written(tmp_path / "a", predictions(1.0, 3.0, 2.4, 1.5, 0.5))).run
    found = harder.outside(run, "gap")
    assert found == pytest.approx(harder.Beyond(2, (0.6 + 2.5) / 2, -(0.6 + 2.5) / 2, 0.5, 2 / 5, 0.5))
    perfect = row("tuned", 2, 0, 0.1, folder=written(tmp_path / "b", predictions(1.0, 2.0, 3.0, 4.0, 1.0))).run
    assert harder.outside(perfect, "gap") == pytest.approx(harder.Beyond(2, 0.0, 0.0, 1.0, 2 / 5, 1.0))
    assert harder.outside(row("tuned", 2, 0, 0.1, folder=tmp_path).run, "gap") is None


def test_the_page_has_factors_and_recall_of_the_harder_split(tmp_path: Path) -> None:
    lines = [f"a{k},train,gap,1.0,1.0" for k in range(9)] + [f"v{k},val,gap,0.5,0.5" for k in range(9)]
    lines += [f"t{k},test,gap,2.0,{1.5 if k < 6 else 0.1}" for k in range(8)]
    folder = written(tmp_path, lines)
    easy = [one for one in rows(draws=2) if one.cell.kind.size == 100]
    hard = [row(mode, 100, draw, error, folder=folder, split="top")
            for mode, error in {"scratch": 0.6, "tuned": 0.4}.items() for draw in range(2)]  # fmt: skip
    found = summary_of([*easy, *hard], "top")
    [factors] = [block for block in harder.factors(found) if isinstance(block, Grid)]
    assert [cells[:5] for cells in factors.rows] == [
        ["gaps", "top", "100", "scratch", "pbe"],
        ["gaps", "top", "100", "tuned", "pbe"],
    ]
    for cells in factors.rows:
        assert float(cells[7]) == pytest.approx(float(cells[6]) / float(cells[5]), rel=0.05)
    [beyond] = [block for block in harder.beyond(found, [*easy, *hard]) if isinstance(block, Grid)]
    assert [cells[3] for cells in beyond.rows] == ["scratch", "tuned"]
    assert beyond.rows[0][5:] == ["8", "0.850", "-0.850", "75%", "47%", "75%"]


def test_splits_that_meet_other_numbers_of_rows_are_compared_at_all_rows() -> None:
    """Of a split by groups the number of all training rows is another one than that of a random split."""
    easy = [row("scratch", 100, 0, 0.2), row("tuned", 100, 0, 0.1)]
    hard = [row("scratch", 90, 0, 0.4, split="element"), row("tuned", 90, 0, 0.3, split="element")]
    every = [one._replace(cell=one.cell._replace(kind=one.cell.kind._replace(size=None))) for one in [*easy, *hard]]
    [grid] = [block for block in harder.factors(summary_of(every, "element")) if isinstance(block, Grid)]
    assert [cells[-1] for cells in grid.rows] == ["2.00", "3.00"]
