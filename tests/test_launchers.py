"""Sweeps by Hydra's launchers: cells side by side in processes of their own, each in its folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import config

from tltool.command_line import gpu_cells

pytestmark = pytest.mark.slow

JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
SUBMITIT = ["hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1"]


def sweep(home: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    cache = os.environ.get("TLTOOL_TEST_CACHE", str(home / "cache"))
    command = [sys.executable, "-m", "tltool", "prepare", "-m", *words, f"cache={cache}"]
    return subprocess.run(command, cwd=home, env=os.environ | env, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("launcher", [JOBLIB, SUBMITIT], ids=["joblib", "submitit"])
def test_cells_side_by_side_share_no_folder_and_go_on_past_a_failed_one(tmp_path: Path, launcher: list[str]) -> None:
    done = sweep(tmp_path, *launcher, "data=demo", "threads=1,none,2")
    assert done.returncode == 2, done.stderr
    (stage,) = (tmp_path / "runs").iterdir()
    (folder,) = stage.iterdir()
    codes = {p.parent.name: json.loads(p.read_text())["code"] for p in folder.glob("*/status.json")}
    assert codes == {"0": 0, "2": 0}
    assert "    name: tltool\n" in (folder / "multirun.yaml").read_text()  # what squeue shows
    threads = [json.loads((folder / cell / "environment.json").read_text())["threads"] for cell in ("0", "2")]
    assert threads == [1, 2]
    if launcher is JOBLIB:
        # Each says where it is and why it failed, and nothing that would be told apart by nobody.
        said = [line for line in done.stderr.splitlines() if not line.startswith("Error executing job")]
        assert sorted(line.split(": ")[0] for line in said) == ["Run folder", "Run folder", "tltool"]


def test_the_cells_of_a_sweep_have_a_gpu_each(tmp_path: Path) -> None:
    """Made-up numbers: torch finds no GPU, and computes on the processor."""
    words = ["pretrain", "-m", "seed=0,1,2", "fit.epochs=1", "split.train_size=32", "split.test=0.02"]
    words += ["split.val=0.02", "kernels=torch"]
    cache = os.environ.get("TLTOOL_TEST_CACHE", str(tmp_path / "cache"))
    done = subprocess.run(
        [sys.executable, "-m", "tltool", *words, f"cache={cache}"],
        cwd=tmp_path, env=os.environ | {"CUDA_VISIBLE_DEVICES": "4,7"}, capture_output=True, text=True, timeout=480,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "distributed over 2 GPUs" in done.stderr
    files = (tmp_path / "runs").rglob("environment.json")
    devices = sorted(json.loads(file.read_text())["visible_gpus"] for file in files)
    assert devices in (["4", "4", "7"], ["4", "7", "7"]), "two at a time, each process with its own"


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
    done = subprocess.run(
        [sys.executable, "-m", "tltool", "pretrain", "-m", *JOBLIB, "seed=0,1"],
        cwd=tmp_path, env=os.environ | env, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 2
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
