"""A signal that arrives while a command still imports: one sentence and the code of interrupted work, no traceback."""

import os
import signal
from pathlib import Path

import pytest
from commands import run

from tltool.command_line import early_checks, launch
from tltool.stages import prepare


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("where", "what"), [(launch, "launch"), (early_checks, "check")])
def test_it_says_how_to_start_again(
    where: object, what: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, what, lambda *given: os.kill(os.getpid(), number))
    done = run(tmp_path, "pretrain", "seed=1", code=75)
    assert done.stderr == "tltool: Interrupted before the run began; start it again: tltool pretrain seed=1\n"


def test_a_run_that_began_says_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "run", lambda *given: os.kill(os.getpid(), signal.SIGINT))
    done = run(tmp_path, "prepare", "kernels=torch", code=75)
    assert done.stderr.splitlines()[-1].startswith("tltool: Interrupted; this starts again: tltool prepare ")
    assert "before the run began" not in done.stderr
