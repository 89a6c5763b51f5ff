"""The bench of a folder of files runs from end to end; how fast is never tested."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_folder


def test_a_few_files() -> None:
    found = bench_folder.main(["--crystals", "30", "--sample", "4", "--rounds", "1"])
    assert set(found) == {"published", "folder", "cache"}
    assert min(found.values()) > 0
