"""The growth script runs from end to end; how fast is never tested."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_a_small_size() -> None:
    command = [sys.executable, str(SCRIPTS / "growth.py"), "--one", "60", "--workers", "1", "--batch", "32"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(SCRIPTS)}, timeout=240
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["crystals"] == 60
    assert min(found["edges"], found["prepare"], found["epoch"], found["peak"]) > 0
