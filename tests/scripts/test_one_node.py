"""The script for one node with several GPUs, with a stand-in for tltool and made-up GPUs, with and without Slurm."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import ROOT

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "scripts" / "slurm" / "one_node.sh"
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >>"$HOME/called"
trap 'exit 75' TERM
while [ -f "$HOME/wait" ]; do sleep 0.05; done
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Give an environment in which all programs that the script calls note how they are called."""
    for name in ("tltool", "torchrun", "scontrol"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("SLURM", "CUDA"))}
    return kept | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("gpus", "words", "called"),
    [
        ("4,7", "transfer -m seed=0,1", "tltool transfer -m seed=0,1 hydra.sweep.dir=runs/transfer/sweep-12"),
        ("4,7", "pretrain data=pbe",
         "torchrun --standalone --nproc_per_node=2 -m tltool pretrain data=pbe resume=latest"),
        ("4,7", "transfer mode=finetune", "torchrun --standalone --nproc_per_node=2 -m tltool transfer mode=finetune"),
        ("4", "pretrain data=pbe", "tltool pretrain data=pbe resume=latest"),
        ("", "transfer", "tltool transfer"),
    ],
)  # fmt: skip
def test_what_it_starts(gpus: str, words: str, called: str, env: dict[str, str], tmp_path: Path) -> None:
    env |= {"CUDA_VISIBLE_DEVICES": gpus, "SLURM_JOB_ID": "12"}
    subprocess.run(["sh", str(SCRIPT), *words.split()], cwd=tmp_path, env=env, check=True, timeout=60)
    assert (tmp_path / "called").read_text() == f"{called}\n"


@pytest.mark.parametrize("slurm", [True, False])
def test_a_job_whose_time_is_up_is_put_back_into_the_queue(slurm: bool, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "wait").touch()
    env |= {"CUDA_VISIBLE_DEVICES": "4"} | ({"SLURM_JOB_ID": "12"} if slurm else {})
    begun = subprocess.Popen(["sh", str(SCRIPT), "pretrain"], cwd=tmp_path, env=env)
    for _ in range(200):
        if (tmp_path / "called").exists():
            break
        time.sleep(0.05)
    time.sleep(0.2)
    begun.send_signal(signal.SIGTERM)  # the stand-in ends with 75, and scontrol waits for nothing
    (tmp_path / "wait").unlink()
    assert begun.wait(30) == 75
    lines = (tmp_path / "called").read_text().splitlines()
    assert lines == ["tltool pretrain resume=latest", *(["scontrol requeue 12"] if slurm else [])]


def test_it_wants_a_stage(env: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(["sh", str(SCRIPT)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "name a stage" in done.stderr
