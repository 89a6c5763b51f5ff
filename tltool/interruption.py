"""How work is asked to end: by a signal, or, of a thread, by another thread.

The first SIGINT (Ctrl-C), SIGTERM or SIGUSR1 raises KeyboardInterrupt or ``Terminated`` in the main thread: at once,
or, inside ``deferred``, at the next ``check``, so that a step is finished first. A second signal ends the process at
once.

Python raises in the main thread only. The runs of a sweep compute in threads of their own; the main thread leaves a
request there, and every loop over batches calls ``check``.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tltool import machine

CODE = 75
"""Exit code of work that was interrupted and can be continued or started again (EX_TEMPFAIL of sysexits.h)."""
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
_AGAIN = 5.0  # seconds after which a second signal counts, where torchrun passes on what a terminal sends to all

_first, _when = 0, 0.0
_deferred = _child = False


class Terminated(SystemExit):
    """SIGTERM or SIGUSR1 arrived."""

    def __init__(self) -> None:
        super().__init__(CODE)


class RunThread(threading.Thread):
    """A thread that another one can ask to end; ``request`` is the exception to end with, None to go on."""

    request: BaseException | None = None


def install() -> None:
    """Handle the signals as above from now on, in this process and those that it forks."""
    global _first, _deferred, _child
    _first, _deferred, _child = 0, False, False
    for number in _SIGNALS:
        signal.signal(number, _arrived)


def in_child() -> None:
    """Handle signals in a process that a run forked: its parent ends it, and it ends when the parent is gone.

    A terminal sends Ctrl-C to all processes. Only SIGTERM and SIGUSR1, which the parent sends, count here, and once.
    """
    global _child
    install()
    _child = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """Let the system end this process when its parent is killed (Linux only)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG


@contextmanager
def deferred(active: bool = True) -> Iterator[None]:
    """Raise a signal that arrives in the body at the next ``check`` there, or at its end."""
    global _deferred
    if not active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _deferred = _deferred, True
    try:
        yield
    finally:
        _deferred = before
    check()


def pending() -> bool:
    """Return whether a signal arrived that ``check`` has to raise."""
    return bool(_first) and _deferred


def check() -> None:
    """Raise the exception with which the current thread was asked to end, if it was; costs less than 1 µs."""
    thread = threading.current_thread()
    request = getattr(thread, "request", None)
    if request is not None:
        raise request
    # Several processes agree on the step after which they end (``training/distributed.py``).
    if _first and thread is threading.main_thread() and not (_deferred and machine.ranks() > 1):
        raise exception()


def exception() -> BaseException:
    """Return what the first signal raises."""
    return KeyboardInterrupt() if _first == signal.SIGINT else Terminated()


def _arrived(number: int, frame: object) -> None:
    global _first, _when
    if _first:
        if not _child and (machine.ranks() == 1 or time.monotonic() - _when > _AGAIN):
            _end_at_once(number)
        return
    _first, _when = number, time.monotonic()
    if not _deferred:
        raise exception()


def _end_at_once(number: int) -> None:
    with suppress(Exception):
        for process in multiprocessing.active_children():
            process.kill()
    os.write(2, b"\ntltool: ended at once by the second signal; files that were complete before are valid.\n")
    os._exit(128 + number)
