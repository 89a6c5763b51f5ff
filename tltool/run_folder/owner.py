"""Whose run a folder is. A run that works holds a lock of the operating system on ``run.lock``, which ends with it.

The file also names the process, for file systems without locks and for other machines: host, boot, process id, and when
the process started in clock ticks since the boot, which no change of the clock moves.
"""

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from tltool.run_folder import status

NAME = "run.lock"
_TRIES, _PAUSE = 5, 0.02  # seconds; whoever looks at a lock holds it for some microseconds


class Owner(NamedTuple):
    """A process; of a folder of an older version the process id alone, the rest is empty."""

    host: str
    boot: str
    pid: int
    started: str


def take(folder: Path, *, again: bool) -> int | None:
    """Lock ``folder`` for this process until the returned descriptor is closed; None if another run has it.

    A folder that had an owner before is taken only ``again``, and if that owner does not work any more. Raise OSError
    if the lock cannot be written.
    """
    fresh = True
    try:
        lock = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        if not again:
            return None
        fresh, lock = False, os.open(folder / NAME, os.O_RDWR)
    if _locked(lock, fcntl.LOCK_EX) is False or (not fresh and _exists(folder)):
        os.close(lock)
        return None
    os.ftruncate(lock, 0)
    os.pwrite(lock, (json.dumps(_this()._asdict()) + "\n").encode(), 0)
    return lock


def is_alive(folder: Path) -> bool:
    """Say if the run in ``folder`` still works, as far as that can be known.

    A run of another machine counts as working as long as its status says so, since its process cannot be asked.
    """
    try:
        lock = os.open(folder / NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        return _locked(lock, fcntl.LOCK_SH) is False or _exists(folder)
    finally:
        os.close(lock)


def told(folder: Path) -> str:
    """Return words for the owner of ``folder``."""
    owner = _read(folder)
    if owner is None:
        return "an unknown process"
    return f"process {owner.pid}" + (f" on {owner.host}" if owner.host else "")


def _exists(folder: Path) -> bool:
    """Say if the process that ``run.lock`` names exists."""
    owner = _read(folder)
    if owner is None:
        return False
    here = _this()
    if not owner.host:  # of an older version: the process may be another one, which began later
        with suppress(psutil.Error, OSError):
            return bool(psutil.Process(owner.pid).create_time() <= (folder / NAME).stat().st_mtime + 1)
        return False
    if owner.host != here.host:
        return bool(status.read(folder).get("state") == "running")
    return owner.pid != here.pid and owner.boot == here.boot and owner.started == _started(owner.pid)


def _read(folder: Path) -> Owner | None:
    try:
        text = (folder / NAME).read_text(encoding="utf-8").strip()
        if text.isdecimal():
            return Owner("", "", int(text), "")
        found = json.loads(text)
        return Owner(str(found["host"]), str(found["boot"]), int(found["pid"]), str(found["started"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _locked(lock: int, kind: int) -> bool | None:
    """Try to lock; return False if another process holds it, None where the file system has no locks."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        except OSError:
            return None
        else:
            return True
    return False


def _this() -> Owner:
    return Owner(socket.gethostname(), _boot(), os.getpid(), _started(os.getpid()))


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{psutil.boot_time():.0f}"


def _started(pid: int) -> str:
    """Return when a process started, in ticks since the boot; empty if there is none."""
    with suppress(OSError):
        # The name of the program may hold spaces and brackets; the start is the 20th number after it.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    with suppress(psutil.Error):
        return f"{psutil.Process(pid).create_time():.2f}"
    return ""
