"""The bench of the encoders leaves none out; how fast is never tested."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import threads_kept

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from bench import __main__ as whole
from bench import encoders, rows
from bench.sides import Side
from bench.tasks import Task
from bench.workers import Ask, Worker

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"


@contextmanager
def worker_here(side: Callable[[Task], Side], task: Task) -> Iterator[Ask]:
    """Stand for a worker in a process of its own."""
    made = Worker(side(task), task)
    yield lambda method, *arguments: getattr(made, method)(*arguments)


def test_an_encoder_gives_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "worker", worker_here)
    monkeypatch.setattr(encoders, "TURNS", 1)
    options = whole.parsed(["--encoders", "megnet", "--encoder-crystals", "30"])
    with threads_kept():
        found = list(encoders.rows(options))
    assert [row.name for row in found] == encoders.names(options) == ["training megnet", "peak memory megnet"]
    assert all(row.ratio is not None and math.isfinite(row.ratio) and row.ratio > 0 for row in found)


def test_every_encoder_has_its_row() -> None:
    there = {file.stem for file in (SCRIPTS.parent / "configs" / "encoder").glob("*.yaml")}
    assert {*encoders.every(), "cgcnn"} == there
    kept = json.loads(rows.LAST.read_text(encoding="utf-8"))["ratios"]
    assert set(encoders.names(whole.parsed([]))) <= kept.keys()
