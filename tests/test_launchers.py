"""Sweeps by Hydra's launchers: cells side by side in processes of their own, each in its folder."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import start
from support import config

from tltool.command_line import gpu_cells

pytestmark = pytest.mark.slow

JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
SUBMITIT = ["hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1"]


def sweep(home: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    cache = os.environ.get("TLTOOL_TEST_CACHE", str(home / "cache"))
    command = [sys.executable, "-m", "tltool", "prepare", "-m", *words, f"cache={cache}"]
    return subprocess.run(command, cwd=home, env=os.environ | env, capture_output=True, text=True, timeout=240)


def states(sweep: Path) -> dict[str, int]:
    return {p.parent.name: json.loads(p.read_text())["code"] for p in sweep.glob("*/status.json")}


def about(sweep: Path, key: str) -> list[Any]:
    """Return what the first and the last of three runs say of their environment."""
    return [json.loads((sweep / cell / "environment.json").read_text())[key] for cell in "02"]


def test_cells_side_by_side_have_a_gpu_each_and_go_on_past_a_failed_one(tmp_path: Path) -> None:
    """Made-up numbers: torch finds no GPU, and computes on the processor."""
    words = ["pretrain", "-m", "threads=1,none,2", "fit.epochs=1", "split.train_size=32", "split.test=0.02"]
    words += ["split.val=0.02", "kernels=torch", "overlap=none", "hydra.sweep.dir=sweep"]
    done = start(tmp_path, *words, code=2, CUDA_VISIBLE_DEVICES="4,7")
    assert states(tmp_path / "sweep") == {"0": 0, "2": 0}
    assert "    name: tltool\n" in (tmp_path / "sweep" / "multirun.yaml").read_text()  # what squeue shows
    assert about(tmp_path / "sweep", "threads") == [1, 2]
    # Two at a time: the process of the one that failed goes on with the last.
    assert sorted(about(tmp_path / "sweep", "visible_gpus")) == ["4", "7"]
    # Each says where it is and why it failed, and nothing that would be told apart by nobody.
    said = [line for line in done.stderr.splitlines() if not line.startswith("Error executing job")]
    assert said[0] == "The runs of this sweep are distributed over 2 GPUs (hydra/launcher=joblib)."
    assert sorted(line.split(": ")[0] for line in said[1:]) == ["Run folder", "Run folder", "tltool"]


@pytest.mark.long
def test_cells_of_submitit_go_on_past_a_failed_one(tmp_path: Path) -> None:
    done = sweep(tmp_path, *SUBMITIT, "data=demo", "threads=1,none,2")
    assert done.returncode == 2, done.stderr
    ((folder,),) = ([*stage.iterdir()] for stage in (tmp_path / "runs").iterdir())
    assert states(folder) == {"0": 0, "2": 0}
    assert "    name: tltool\n" in (folder / "multirun.yaml").read_text()
    assert about(folder, "threads") == [1, 2]


@pytest.mark.parametrize(
    ("gpus", "words", "added"),
    [
        ("4,7", "pretrain -m seed=0,1", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("4,7", "transfer --multirun device=cuda", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        ("4,7", "transfer -m hydra/launcher=joblib", ["hydra.launcher.n_jobs=2"]),
        ("4", "transfer -m hydra/launcher=joblib", ["hydra.launcher.n_jobs=1"]),
        ("", "transfer -m hydra/launcher=joblib", []),
        ("4", "transfer -m", []),
        ("4,7", "transfer seed=0", []),
        ("4,7", "prepare -m data=demo,elastic", []),
        ("4,7", "transfer -m device=cpu", []),
        ("4,7", "transfer -m device=cuda:0,cuda:1", []),
        ("4,7", "transfer -m hydra/launcher=slurm", []),
        ("4,7", "transfer -m hydra/launcher=joblib hydra.launcher.n_jobs=6", []),
    ],
)
def test_how_many_cells_at_once(gpus: str, words: str, added: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    stage, *rest = words.split()
    assert gpu_cells.words(stage, rest) == added


def test_a_launcher_and_torchrun_do_not_go_together(tmp_path: Path) -> None:
    env = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    done = start(tmp_path, "pretrain", "-m", *JOBLIB, "seed=0,1", code=2, **env)
    assert "tltool: A launcher and torchrun do not go together; leave one of them out." in done.stderr


def test_the_slurm_launcher_takes_partition_gpus_and_time() -> None:
    words = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1"]
    # ``config`` leaves Hydra's own node out; that it composes says that all keys are there.
    assert config("transfer", *words, "hydra.launcher.timeout_min=30")["stage"] == "transfer"


@pytest.mark.skipif(any((Path(p) / "srun").exists() for p in os.environ["PATH"].split(":")), reason="Slurm is here")
def test_without_slurm_one_sentence_says_so(tmp_path: Path) -> None:
    done = sweep(tmp_path, "hydra/launcher=slurm", "threads=1,2")
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1].startswith("tltool: Slurm is not here")
    assert "Traceback" not in done.stderr
