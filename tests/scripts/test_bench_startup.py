"""The bench of the start-up starts both commands; how fast is never tested."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from bench import startup

pytestmark = pytest.mark.slow


def test_both_figures_are_there(tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = startup.first_batch
    monkeypatch.setattr(startup, "first_batch", lambda folder, cache, starts: whole(folder, cache_folder, starts))
    found = list(startup.rows(Namespace(starts=1)))
    assert [row.name for row in found] == startup.names(Namespace())
    assert 0 < found[0].ours < found[1].ours
