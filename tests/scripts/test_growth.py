"""The growth script runs from end to end; how fast is never tested."""

import json
import sys
from pathlib import Path

import pytest
from forks import fork

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import growth

pytestmark = pytest.mark.slow


def test_a_small_size(tmp_path: Path) -> None:
    process = fork(lambda: growth.main(["--one", "60", "--workers", "1", "--batch", "32"]), tmp_path)
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    found = json.loads(said.splitlines()[-1])
    assert found["crystals"] == 60
    assert min(found["edges"], found["prepare"], found["epoch"], found["peak"]) > 0
