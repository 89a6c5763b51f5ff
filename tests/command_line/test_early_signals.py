"""A signal that arrives while a command still imports: one sentence and the code of interrupted work, no traceback."""

import os
import signal
from pathlib import Path

import pytest
from commands import run

from tltool.command_line import early_checks, launch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("where", "what"), [(launch, "launch"), (early_checks, "check")])
def test_it_says_how_to_start_again(
    where: object, what: str, number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, what, lambda *given: os.kill(os.getpid(), number))
    done = run(tmp_path, "pretrain", "seed=1", code=75)
    assert done.stderr == "tltool: Interrupted before the run began; start it again: tltool pretrain seed=1\n"
