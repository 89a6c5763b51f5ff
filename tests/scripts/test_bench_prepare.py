"""The bench of preparing runs from end to end; how fast is never tested."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_prepare


def test_a_few_entries() -> None:
    found = bench_prepare.main(["--entries", "60", "--files", "2", "--workers", "1", "--rounds", "1"])
    assert found["prepared"] > 0
    assert found["ratio"] > 0
