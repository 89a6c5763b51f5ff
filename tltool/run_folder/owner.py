"""Whose run a folder is. A run that works holds a lock of the operating system on ``run.lock``, which ends with it.

The file also names the process, for file systems without locks and for other machines: host, boot, process id, and when
the process started in clock ticks since the boot, which no change of the clock moves.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

import psutil

from tltool import machine
from tltool.machine import Process
from tltool.run_folder import status

NAME = "run.lock"


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
    if machine.lock(lock) is False or (not fresh and _exists(folder)):
        os.close(lock)
        return None
    os.ftruncate(lock, 0)
    os.write(lock, (json.dumps(machine.this_process()._asdict()) + "\n").encode())
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
        return machine.lock(lock, shared=True) is False or _exists(folder)
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
    if not owner.host:  # of an older version: the process may be another one, which began later
        with suppress(psutil.Error, OSError):
            return bool(psutil.Process(owner.pid).create_time() <= (folder / NAME).stat().st_mtime + 1)
        return False
    running = machine.is_running(owner)
    if running is None:
        return bool(status.read(folder).get("state") == "running")
    return running and owner.pid != os.getpid()


def _read(folder: Path) -> Process | None:
    """Return the process that ``run.lock`` names; of an older version its number alone, the rest is empty."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8").strip()
        if text.isdecimal():
            return Process("", "", int(text), "")
        found = json.loads(text)
        return Process(str(found["host"]), str(found["boot"]), int(found["pid"]), str(found["started"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
