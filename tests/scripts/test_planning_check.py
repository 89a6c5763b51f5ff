"""The check of the planning figure: normal differences are settled in about four of five samples of its size."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import planning_check


def test_a_figure_from_the_true_deviation_settles_four_of_five() -> None:
    made = np.random.default_rng(0)
    many = (0.1 * made.normal(size=2_000)).tolist()
    found = planning_check.checked("gap", many, [1.0] * 2_000, pilot=1_000)
    assert found.pilot_deviation == pytest.approx(0.1, rel=0.1)
    assert abs(found.needed - found.needed_by_others) <= 4
    assert found.settled == pytest.approx(0.8, abs=0.06)


def test_a_pilot_that_is_too_calm_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = np.random.default_rng(1)
    rows = []
    for draw in range(48):
        deviation = 0.02 if draw < 8 else 0.2
        for mode, error in {"scratch": 1.0, "ridge": 1.0 + deviation * made.normal()}.items():
            about = {"target": "gaps", "size": 50, "split": "random", "quantity": "gap", "source": "pbe"}
            rows.append({**about, "mode": mode, "draw": draw, "error": error, "state": "done"})
    rows.append({**rows[-1], "draw": 48, "error": np.nan, "state": "left"})
    pd.DataFrame(rows).to_csv(tmp_path / "cells.csv", index=False)
    planning_check.main([str(tmp_path)])
    [line] = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("| gaps, 50 rows, ridge from pbe")
    ]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert int(cells[3]) < int(cells[4]) / 5
    assert float(cells[5].rstrip("%")) < 50
