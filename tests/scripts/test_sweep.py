import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT

from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint

pytestmark = pytest.mark.slow


@pytest.mark.long
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
    # What is done is read from the run folder; what runs now, and its report, are of no more interest.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tltool").write_text("#!/bin/sh\necho report.html >&2\n")
    (tmp_path / "bin" / "tltool").chmod(0o755)
    again = sweep(SEEDS="0 1", SIZES="40", JOBS="2", PATH=f"{tmp_path / 'bin'}:{path}")
    assert "done before: sweep/features-40-0" in again
    assert "done: sweep/features-40-1" in again


TLTOOL = """#!/bin/sh
trap 'echo ended >"$HOME/$$.ended"; exit 143' TERM
echo "$@" >>"$HOME/called"
echo "$2 $3 $4 ${CUDA_VISIBLE_DEVICES-none}" >>"$HOME/devices"
[ "$1" = report ] && exit 0
while [ -f "$HOME/wait" ]; do sleep 0.05; done
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> dict[str, str]:
    """Give an environment with a tltool that notes how it is called, and goes on until the file ``wait`` is gone."""
    (tmp_path / "tltool").write_text(TLTOOL)
    (tmp_path / "tltool").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    keys = {"TARGET": "folder", "MODES": "freeze", "SIZES": "all", "SEEDS": "0 1", "SWEEP": "s", "JOBS": "2"}
    return os.environ | {"PATH": path, "HOME": str(tmp_path)} | keys


def test_a_sweep_says_what_runs_and_takes_any_override(stand_in: dict[str, str], tmp_path: Path) -> None:
    words = ["sh", str(ROOT / "scripts" / "sweep.sh"), "target.data.root=my dir", "fit.epochs=5"]
    done = subprocess.run(words, cwd=tmp_path, env=stand_in, capture_output=True, text=True, timeout=60)
    command = "transfer target=folder mode=freeze seed=0 source=latest target.data.root=my dir fit.epochs=5"
    assert f"run 1 of 2: tltool {command} hydra.run.dir=s/freeze-all-0" in done.stdout.splitlines()
    assert f"{command} hydra.run.dir=s/freeze-all-0" in (tmp_path / "called").read_text().splitlines()
    other = subprocess.run([*words, "seed=3"], cwd=tmp_path, env=stand_in, capture_output=True, text=True, timeout=60)
    assert other.returncode == 2
    assert "s holds a sweep with other overrides" in other.stderr


NVIDIA_SMI = """#!/bin/sh
echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'
echo '  MIG 1g.10gb     Device  0: (UUID: MIG-1)'
echo 'GPU 1: NVIDIA H100 (UUID: GPU-2)'
"""


@pytest.mark.parametrize(
    ("given", "devices"),
    [("4,GPU-7", ["4", "GPU-7", "4"]), ("5", ["5"] * 3), ("", [""] * 3), (None, ["0", "1", "0"])],
)
def test_each_run_of_a_sweep_has_a_gpu(
    given: str | None, devices: list[str], stand_in: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    env = {k: v for k, v in stand_in.items() if k not in ("JOBS", "CUDA_VISIBLE_DEVICES")} | {"SEEDS": "0 1 2"}
    env |= {} if given is None else {"CUDA_VISIBLE_DEVICES": given}
    subprocess.run(["sh", str(ROOT / "scripts" / "sweep.sh")], cwd=tmp_path, env=env, check=True, timeout=60)
    lines = [line for line in (tmp_path / "devices").read_text().splitlines() if line.startswith("target=folder")]
    expected = [f"target=folder mode=freeze seed={seed} {device}" for seed, device in enumerate(devices)]
    assert sorted(lines) == expected


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_sweep_ends_what_it_started_and_nothing_else(
    sent: signal.Signals, stand_in: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "wait").touch()
    # One process group: what the sweep did not start, and the sweep.
    script = f'sleep 60 & echo $! >other\nexec sh "{ROOT / "scripts" / "sweep.sh"}"'
    restore = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    begun = subprocess.Popen(
        ["sh", "-c", script], cwd=tmp_path, env=stand_in, start_new_session=True, preexec_fn=restore
    )
    called = tmp_path / "called"
    for _ in range(200):
        if called.exists() and len(called.read_text().splitlines()) == 2:
            break
        time.sleep(0.05)
    begun.send_signal(sent)
    assert begun.wait(30) == 130
    assert len(list(tmp_path.glob("*.ended"))) == 2
    other = int((tmp_path / "other").read_text())
    os.kill(other, 0)  # it still runs
    os.kill(other, signal.SIGKILL)
    assert "report" not in called.read_text()
