"""Several processes under ``torchrun`` (gloo, CPU): they learn what one learns, and end together."""

import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from runpy import run_module
from typing import Any

import pytest
import two_ranks
from commands import run
from forks import Begun, begin, fork
from support import ROOT
from torch.distributed import TCPStore

from tltool import cli
from tltool.training.saved_model import checkpoint

pytestmark = pytest.mark.slow

FEW = ["split.train_size=41", "split.val=0.02", "fit.epochs=2", "fit.batch_size=20", "overlap=none", "threads=1"]
ONE = ["-m", "tltool"]
PAIR = ["--standalone", "--nproc_per_node=2"]
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


def torchrun(home: Path, *words: str) -> Begun:
    """Begin ``torchrun`` with ``words``; it is forked, and its two processes start."""

    def work() -> None:
        sys.argv = ["torchrun", *PAIR, *ONE, *words]
        run_module("torch.distributed.run", run_name="__main__")

    return fork(work, home, OMP_NUM_THREADS="1", PYTHONPATH=f"{ROOT}:{home}")


def pair(home: Path, work: Callable[[], int | None]) -> tuple[list[Begun], TCPStore]:
    """Begin two processes that do ``work`` as those of ``torchrun`` do, and where they meet, which has to stay."""
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port)}
    shared["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    return [fork(work, home, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(2)], store


def command(*words: str) -> Callable[[], None]:
    def work() -> None:
        sys.argv = ["tltool", *words]
        cli.main()

    return work


def ended(process: Begun) -> tuple[int, str]:
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
    alone = begin(folder, *words, "kernels=torch", "hydra.run.dir=one")
    ranks, _store = pair(folder, command(*words, "hydra.run.dir=two"))
    (one, *both) = map(ended, [alone, *ranks])
    for code, said in (one, *both):
        assert code == 0, said
    for said in (one[1], both[0][1] + both[1][1]):
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


@pytest.mark.long
def test_an_error_on_one_rank_ends_all(home: Path) -> None:
    (home / "unwell.py").write_text(UNWELL)
    words = ["~mode", "+mode._target_=unwell.mode", "plugins=[unwell]", "source=one", "split.train_size=30"]
    code, said = ended(torchrun(home, "transfer", *words, "fit.epochs=500", "hydra.run.dir=unwell"))
    assert code != 0
    (sentence,) = [line for line in said.splitlines() if line.startswith("tltool: ")]
    assert sentence.startswith("tltool: Rank 1 is unwell; let it rest.")
    assert re.search(r"^ *exitcode *: 3 ", said, re.MULTILINE), said
    status = json.loads((home / "unwell" / "status.json").read_text())
    assert (status["state"], status["code"]) == ("failed", 3)
    assert "DataError" in (home / "unwell" / "error.log").read_text()


def test_a_step_of_two_ranks_is_that_of_one(tmp_path: Path) -> None:
    encoders = ["cgcnn", "cgat", "alignn_small"]
    ranks, _store = pair(tmp_path, lambda: two_ranks.compare(encoders))
    for code, said in map(ended, ranks):
        assert code == 0, said


def test_only_training_takes_several_processes(tmp_path: Path) -> None:
    env = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    done = run(tmp_path, "report", code=2, **env)
    assert done.stderr == "tltool: report runs in one process; start it without torchrun.\n"
