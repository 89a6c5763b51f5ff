"""The bench of preparing runs from end to end; how fast is never tested."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from bench import prepare


def test_a_few_entries() -> None:
    found = prepare.main(["--entries", "60", "--files", "2", "--workers", "1", "--rounds", "1"])
    assert found["prepared"] > 0
    assert found["ratio"] > 0


def test_the_rows_of_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"parsed": 400.0, "prepared": 100.0, "ratio": 4.0, "peak": 55.0}
    monkeypatch.setattr(prepare, "measured", lambda entries, count, files, workers, rounds: found)
    rows = list(prepare.rows(Namespace(entries=60)))
    assert [row.name for row in rows] == prepare.names(Namespace())
    assert [row.ratio for row in rows] == [0.25, None]
