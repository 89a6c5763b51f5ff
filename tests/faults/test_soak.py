"""Fault 2 of the list in docs/reliability.md, in small; ``make soak`` kills two hundred times."""

import random
import sys
from pathlib import Path

import pytest
from support import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import soak


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", ["pretrain cgcnn", "prepare"])
def test_02_a_kill_at_random_changes_no_bit(
    name: str, tmp_path: Path, cache_folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_folder.mkdir(exist_ok=True)
    (tmp_path / "cache").symlink_to(cache_folder)
    monkeypatch.setattr(soak, "SMALL", [*soak.SMALL, "split.val=0.03", "split.test=0.02"])
    (work,) = [work for work in soak.works(["cgcnn"]) if work.name == name]
    assert soak.survived(work, tmp_path, 2, random.Random(0)) == (2, True)
    assert "2 kills in " in capfd.readouterr().out
