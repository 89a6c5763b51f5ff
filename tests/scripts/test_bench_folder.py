"""The bench of a folder of files runs from end to end; how fast is never tested."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from bench import folder


def test_a_few_files() -> None:
    found = folder.main(["--crystals", "30", "--sample", "4", "--rounds", "1"])
    assert set(found) == {"published", "folder", "cache"}
    assert min(found.values()) > 0


def test_the_rows_of_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"published": 10.0, "folder": 200.0, "cache": 5000.0}
    monkeypatch.setattr(folder, "measured", lambda count, sample, rounds: found)
    rows = list(folder.rows(Namespace(cif_files=30, sample=4)))
    assert [row.name for row in rows] == folder.names(Namespace())
    assert [row.ratio for row in rows] == [20.0, 500.0]
