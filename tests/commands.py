"""Commands of ``tltool`` as a shell sees them: run in this process, or started as one of their own.

A start costs several seconds, since it imports PyTorch. ``run`` is for whatever a command reads, says and leaves
behind; ``start`` for the start itself, for signals, for processes that a command makes, and once for each stage.
"""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from tltool import cli, interruption
from tltool.training.setup import use_threads


class Done(NamedTuple):
    """A command that has ended: its exit code, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


@contextlib.contextmanager
def threads_kept() -> Iterator[None]:
    """Afterwards, compute with as many threads as before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        use_threads(before)


@contextlib.contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Afterwards, draw the random numbers that would have come without what happens inside."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(before[0])
    np.random.set_state(before[1])


@contextlib.contextmanager
def _imports_from(home: Path) -> Iterator[None]:
    """Import modules of ``home`` as ``python -m`` does there; afterwards forget them."""
    with patch.object(sys, "path", [str(home), *sys.path]):
        yield
    below = f"{home}{os.sep}"
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(below):
            del sys.modules[name]


def run(home: Path, *words: str, code: int | None = 0, **env: str) -> Done:
    """Run ``tltool`` with ``words`` in this process and in the folder ``home``.

    It has to end with ``code``, with any where that is None. ``env`` adds to the environment. What processes that it
    starts write is not caught.
    """
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    with contextlib.ExitStack() as kept:
        for context in (
            contextlib.chdir(home),
            patch.dict(os.environ, {"COLUMNS": "200"} | env),
            patch.object(sys, "argv", ["tltool", *words]),
            _imports_from(home),
            threads_kept(),
            _random_numbers_kept(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            kept.enter_context(context)
        for number, handler in handlers.items():
            kept.callback(signal.signal, number, handler)
        kept.callback(interruption.install)  # which forgets a signal that ended the command
        try:
            cli.main()
            ended = 0
        except SystemExit as stop:
            ended = stop.code if isinstance(stop.code, int) else 1
    return _checked(Done(ended, out.getvalue(), err.getvalue()), code)


def start(home: Path, *words: str, code: int | None = 0, **env: str) -> Done:
    """Run ``tltool`` as ``run`` does, as a process of its own."""
    given = os.environ | {"COLUMNS": "200"} | env
    command = [sys.executable, "-m", "tltool", *words]
    done = subprocess.run(command, cwd=home, env=given, capture_output=True, text=True, timeout=240)
    return _checked(Done(done.returncode, done.stdout, done.stderr), code)


def _checked(done: Done, code: int | None) -> Done:
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done
