"""Fault 2 of the list in docs/reliability.md, in small; ``make soak`` kills two hundred times."""

import subprocess
import sys

import pytest
from support import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain cgcnn", "prepare"])
def test_02_a_kill_at_random_changes_no_bit(name: str) -> None:
    words = [sys.executable, str(ROOT / "scripts" / "soak.py"), "--count", "3", "--encoders", "cgcnn", "--only", name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("3 kills, every result identical to the bit.\n")
