"""The measurement of recall and precision runs from end to end, and its criterion tells structures apart."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import check_overlap

from tltool.data.record import Crystal


def test_quick_run_prints_both(capsys: pytest.CaptureFixture[str]) -> None:
    check_overlap.main(["--quick", "--workers", "1"])
    printed = capsys.readouterr().out
    assert "sites moved by 0.05 Å" in printed
    assert "pairs of one formula in 400 crystals" in printed


def test_the_criterion_tells_polymorphs_from_copies(crystals: list[Crystal]) -> None:
    generator = np.random.default_rng(0)
    for crystal in crystals[:8]:
        copy = check_overlap.in_another_cell(check_overlap.moved(crystal, 0.03, generator), generator)
        assert check_overlap.agreement(crystal, copy) < check_overlap.AGREE
    rock_salt = Crystal(np.ones((3, 3)) - np.eye(3), np.array([[0.0, 0, 0], [0.5] * 3]), np.array([11, 17]))
    caesium_chloride = rock_salt._replace(lattice=np.eye(3))
    assert check_overlap.agreement(rock_salt, caesium_chloride) > check_overlap.AGREE
