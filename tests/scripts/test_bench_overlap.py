"""The timing of the overlap audit runs from end to end; how fast is never tested."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_overlap

pytestmark = pytest.mark.slow


def test_quick_run_times_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    bench_overlap.main(["--quick", "--workers", "1"])
    printed = capsys.readouterr().out
    parts = ("index of 2,000", "fingerprints of 100", "look-up", "comparison", "in all")
    assert all(part in printed for part in parts)
    assert "17.0 bytes a crystal" in printed
