import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint

pytestmark = pytest.mark.slow


def test_a_sweep_passes_over_a_failed_cell_and_goes_on_where_it_stopped(source: PropertyModel, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "source", source)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "SOURCE": "source", "MODES": "features", "SIZES": "40 99999", "SEEDS": "0"}
    env["SWEEP"] = "sweep"

    def sweep(**keys: str) -> list[str]:
        words = ["sh", str(ROOT / "scripts" / "sweep.sh")]
        done = subprocess.run(words, cwd=tmp_path, env=env | keys, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "report.html" in done.stderr
        return done.stdout.splitlines()

    first = sweep()
    assert "done: sweep/features-40-0" in first
    assert "failed with code 2: sweep/features-99999-0 (see sweep/features-99999-0.out)" in first
    assert "train_size=99999" in (tmp_path / "sweep" / "features-99999-0.out").read_text()
    (tmp_path / "sweep" / "features-40-1").mkdir()
    again = sweep(SEEDS="0 1", SIZES="40", JOBS="2")
    assert "done before: sweep/features-40-0" in again
    assert "done: sweep/features-40-1" in again
