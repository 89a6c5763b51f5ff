"""Faults 1 to 3 of the list in docs/reliability.md: signals, kills, and what a run that goes on gives."""

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import run
from forks import begin
from support import ROOT

SMALL = ["pretrain", "fit.epochs=40", "split.train_size=120", "split.val=0.05", "split.test=0.02", "overlap=none"]
SMALL += ["threads=1"]


def until(folder: Path, text: str) -> None:
    """Wait until the log of the run in ``folder`` has ``text``."""
    for _ in range(1200):
        if (folder / "log.jsonl").exists() and text in (folder / "log.jsonl").read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{folder} has never logged {text}")


def errors(folder: Path) -> dict[str, object]:
    found = json.loads((folder / "metrics.json").read_text())["quantities"]
    return dict(found)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that is never stopped."""
    home = tmp_path_factory.mktemp("whole")
    run(home, *SMALL, "hydra.run.dir=whole", TLTOOL_OFFLINE="1")
    return home / "whole"


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_01_a_signal_in_the_first_minutes_is_continued_to_the_bit(
    tmp_path: Path, whole: Path, sent: signal.Signals
) -> None:
    begun = begin(tmp_path, *SMALL, "runs=my runs", "hydra.run.dir=begun", TLTOOL_OFFLINE="1")
    until(tmp_path / "begun", '"epoch": 2,')
    begun.send_signal(sent)
    said = begun.communicate(timeout=60)[1]
    assert begun.returncode == 75
    (again,) = re.findall(r"this continues: tltool (.*)", said)
    assert shlex.split(again) == [*SMALL, "runs=my runs", f"resume={tmp_path / 'begun'}"]
    run(tmp_path, *shlex.split(again), "hydra.run.dir=rest")
    assert errors(tmp_path / "rest") == errors(whole)
    assert (tmp_path / "rest" / "predictions.csv").read_text() == (whole / "predictions.csv").read_text()


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_01_a_second_signal_ends_at_once(sent: str, code: int) -> None:
    script = (
        "import os, signal; from tltool import interruption\n"
        f"interruption.install()\nwith interruption.deferred():\n os.kill(os.getpid(), signal.{sent})\n"
        f" print('waits', flush=True)\n os.kill(os.getpid(), signal.{sent})\n print('went on', flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "waits\n")
    assert "ended at once by the second signal" in done.stderr


def a_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.slow
@pytest.mark.long
def test_01_slurm_warns_and_queues_again(tmp_path: Path) -> None:
    """Play the scheduler for the script of docs/reliability.md: SIGTERM to the step, and what asks for another turn."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```bash\n(#!/bin/sh\n#SBATCH.*?)```", page, re.DOTALL)
    assert "--signal=TERM@" in script
    assert "--requeue" in script
    words = " ".join(SMALL[1:])
    script, changed = re.subn(r"tltool pretrain .* resume=latest", f"tltool pretrain {words} resume=latest", script)
    assert changed == 1
    (tmp_path / "job.sh").write_text(script)
    bin_ = tmp_path / "bin"
    a_program(bin_ / "srun", 'echo $$ >"$HOME/step"; exec "$@"')
    a_program(bin_ / "tltool", f'exec {sys.executable} -m tltool "$@"')
    a_program(bin_ / "scontrol", 'echo "$@" >>"$HOME/asked"')
    env = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "TLTOOL_OFFLINE": "1"}
    env |= {"HOME": str(tmp_path)}
    for turn in range(2):
        (tmp_path / "step").unlink(missing_ok=True)
        with subprocess.Popen(["sh", "job.sh"], cwd=tmp_path, env=env, stderr=subprocess.PIPE) as job:
            if turn == 0:
                for _ in range(1200):
                    runs = list(tmp_path.glob("runs/pretrain/*/log.jsonl"))
                    if runs and '"epoch": 2,' in runs[0].read_text():
                        break
                    time.sleep(0.05)
                os.kill(int((tmp_path / "step").read_text()), signal.SIGTERM)
            assert job.stderr is not None
            said = job.stderr.read().decode()
    assert "Continuing runs/pretrain/" in said
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    states = [json.loads(file.read_text())["state"] for file in sorted(tmp_path.glob("runs/pretrain/*/status.json"))]
    assert states == ["interrupted", "finished"]


@pytest.mark.slow
def test_02_a_sweep_that_is_started_again_leaves_out_what_is_finished(tmp_path: Path) -> None:
    words = ["transfer", "-m", "mode=features", "seed=0,1", "split.train_size=40", "source=bundled"]
    words += ["hydra.sweep.dir=many", "workers=1", "overlap=none", "split.val=0.05", "split.test=0.05"]
    run(tmp_path, *words)
    folders = [tmp_path / "many" / name for name in "01"]
    before = [(folder / "predictions.csv").stat().st_mtime_ns for folder in folders]
    status = folders[1] / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "running"}))
    done = run(tmp_path, *words)
    after = [(folder / "predictions.csv").stat().st_mtime_ns for folder in folders]
    assert "many/0 is finished already, with the same config and data." in done.stderr
    assert done.stderr.count("Run folder: ") == 1
    assert before[0] == after[0]
    assert before[1] < after[1]
    other = run(tmp_path, *words, "coverage=0.8", code=2)
    assert other.stderr.count("holds a run that is finished; name another") == 2
