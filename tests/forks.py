"""Processes of their own that need not start: forks of this one, in which PyTorch and the like are imported already.

A start and the imports of a run cost five seconds or more of processor time. ``begin`` is for what needs another
process (signals, kills, locks, several at once); ``commands.start`` is for the start itself.
"""

import atexit
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tltool import cli

HEAVY = ("sklearn.linear_model", "pandas", "matplotlib.backends.backend_agg", "hydra.main")
"""What a run imports besides tltool, and what takes long to import."""


class Begun:
    """A process that was forked; as ``subprocess.Popen`` with text, as far as tests need it."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid, self._folder = pid, folder
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, as a negative number that of the signal that ended it; None while it runs."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float) -> int:
        """Wait for the end; kill it and raise TimeoutExpired where it does not come."""
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                self.kill()
                os.waitpid(self.pid, 0)
                raise subprocess.TimeoutExpired("a forked process", timeout, *self.said())
            time.sleep(0.01)
        return code

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the end; return what it wrote to its output and to its errors."""
        self.wait(timeout)
        return self.said()

    def said(self) -> tuple[str, str]:
        """Return what it has written so far."""
        return (self._folder / "out").read_text(), (self._folder / "err").read_text()


def begin(home: Path, *words: str, **env: str) -> Begun:
    """Begin ``tltool`` with ``words`` in the folder ``home``; ``env`` adds to the environment."""

    def work() -> int:
        sys.argv = ["tltool", *words]
        cli.main()
        return 0

    return fork(work, home, **env)


def fork(work: Callable[[], int | None], home: Path, **env: str) -> Begun:
    """Begin a process that does ``work`` in the folder ``home``; what that returns is its exit code."""
    _imported()
    folder = Path(tempfile.mkdtemp(prefix="fork-"))
    for name in ("out", "err"):
        (folder / name).touch()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, from Python 3.12 on
        pid = os.fork()
    if pid:
        return Begun(pid, folder)
    code = 1
    try:
        code = _in_child(work, home, folder, env)
    finally:
        os._exit(code)


def _in_child(work: Callable[[], int | None], home: Path, folder: Path, env: dict[str, str]) -> int:
    """Do ``work`` as a process does that was started: signals, streams and folder are as a shell gives them."""
    atexit._clear()  # what this process does at its end is not for a fork to do
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        signal.signal(number, handler)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    os.chdir(home)
    os.environ.update({"COLUMNS": "200"} | env)
    try:
        return work() or 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        # As at the end of a process: executors end their workers.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


@cache
def _imported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in HEAVY:
            importlib.import_module(name)


def import_from(package: Path) -> None:
    """Import tltool from the folder ``package`` from now on, and from no other installation; for a forked process."""
    for name in [name for name in sys.modules if name.split(".")[0] == "tltool"]:
        del sys.modules[name]
    # Without the finders of other installations.
    frozen = ("_frozen_importlib_external", "_frozen_importlib")
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder.__module__ in frozen]
    sys.path.insert(0, str(package))
    importlib.invalidate_caches()
    found = importlib.import_module("tltool").__file__
    assert found, "tltool is a folder without code"
    assert found.startswith(str(package)), found
