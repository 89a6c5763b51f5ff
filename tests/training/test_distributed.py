"""Several processes under ``torchrun`` (gloo, CPU): they learn what one learns, and end together."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import two_ranks
from commands import run
from forks import Begun, begin, fork

from tltool.training.saved_model import checkpoint

pytestmark = pytest.mark.slow

FEW = ["split.train_size=41", "split.val=0.02", "fit.epochs=2", "fit.batch_size=20", "overlap=none", "threads=1"]
ONE = ["-m", "tltool"]
PAIR = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
LIMIT = 150  # seconds, of which a quiet machine needs ten

UNWELL = """
import os
from dataclasses import replace
from tltool.errors import DataError
from tltool.transfer.scratch import scratch

def mode(source, data, fit, /):
    def log(event):
        fit.log(event)
        if event["event"] == "epoch" and os.environ["RANK"] == "1":
            raise DataError("Rank 1 is unwell; let it rest.")
    return scratch(source, data, replace(fit, log=log))
"""


def started(home: Path, *words: str) -> subprocess.Popen[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(home)}
    return subprocess.Popen(
        [sys.executable, *words], cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: "subprocess.Popen[str] | Begun") -> tuple[int, str]:
    try:
        said = process.communicate(timeout=LIMIT)[1]
    finally:
        process.send_signal(signal.SIGTERM)  # torchrun takes its processes along
    return process.returncode or 0, said


def epochs(folder: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "epoch"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same pretraining by one process, ``one``, and by two, ``two``."""
    folder = tmp_path_factory.mktemp("home")
    # Both at once, and nothing prepared: the two wait for whoever prepares it.
    words = ["pretrain", *FEW, f"cache={folder}/cache"]
    runs: list[Begun | subprocess.Popen[str]] = [begin(folder, *words, "kernels=torch", "hydra.run.dir=one")]
    runs += [started(folder, *PAIR, *ONE, *words, "hydra.run.dir=two")]
    for code, said in map(ended, runs):
        assert code == 0, said
        assert said.count("Run folder: ") == 1
        assert said.count("Pretraining on 41 crystals") == 1
    return folder


def test_two_processes_learn_what_one_does(home: Path) -> None:
    alone, together = epochs(home / "one"), epochs(home / "two")
    assert len(alone) == 2
    for one, two in zip(alone, together, strict=True):
        # The rows are summed up in another order; Adam makes more of it from step to step.
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-5)
        assert two["val_MAE"] == pytest.approx(one["val_MAE"], rel=1e-4)
        assert two["learning_rate"] == one["learning_rate"]


def test_rank_0_alone_writes_and_the_model_loads(home: Path) -> None:
    one, two = home / "one", home / "two"
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert json.loads((two / "status.json").read_text())["state"] == "finished"
    assert json.loads((two / "environment.json").read_text())["processes"] == 2
    assert checkpoint.load(two / "model").quantities == ["e_form"]
    errors = [json.loads((f / "metrics.json").read_text())["quantities"]["e_form"]["test"]["MAE"] for f in (one, two)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)
    assert not (home / "runs").exists()


def test_an_error_on_one_rank_ends_all(home: Path) -> None:
    (home / "unwell.py").write_text(UNWELL)
    words = ["~mode", "+mode._target_=unwell.mode", "plugins=[unwell]", "source=one", "split.train_size=30"]
    code, said = ended(started(home, *PAIR, *ONE, "transfer", *words, "fit.epochs=500", "hydra.run.dir=unwell"))
    assert code != 0
    (sentence,) = [line for line in said.splitlines() if line.startswith("tltool: ")]
    assert sentence.startswith("tltool: Rank 1 is unwell; let it rest.")
    assert "exitcode: 3" in said
    status = json.loads((home / "unwell" / "status.json").read_text())
    assert (status["state"], status["code"]) == ("failed", 3)
    assert "DataError" in (home / "unwell" / "error.log").read_text()


def test_a_step_of_two_ranks_is_that_of_one(tmp_path: Path) -> None:
    with socket.create_server(("localhost", 0)) as free:
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    encoders = ["cgcnn", "cgat", "alignn_small"]
    ranks = [
        fork(lambda: two_ranks.compare(encoders), tmp_path, RANK=str(rank), LOCAL_RANK=str(rank), **shared)
        for rank in range(2)
    ]
    for code, said in map(ended, ranks):
        assert code == 0, said


def test_only_training_takes_several_processes(tmp_path: Path) -> None:
    env = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    done = run(tmp_path, "report", code=2, **env)
    assert done.stderr == "tltool: report runs in one process; start it without torchrun.\n"
