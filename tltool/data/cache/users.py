"""Which processes use a folder of the cache: one at a time writes into it, and many may read it as long as they run.

The lock is a file beside the folder. A reader leaves a file in the folder, named for its process, and takes it away at
its end; that of a killed process counts for nothing.
"""

import atexit
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tltool import machine
from tltool.errors import ResourceError
from tltool.machine import Process

_USERS = "users"
_mine: set[Path] = set()


@contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let only one process write into a ``folder`` of the cache at a time; the lock ends with its process."""
    path = lock_of(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    except OSError as error:
        raise ResourceError(f"Cannot write to cache={path.parent} ({error.strerror}); name another folder.") from error
    with handle:
        if machine.lock(handle.fileno()) is False:
            say(f"Another process prepares {path.stem}; waiting for it.")
            machine.lock(handle.fileno(), wait=True)
        handle.write(str(os.getpid()))
        yield


def lock_of(folder: Path) -> Path:
    """Return the file whose lock lets a process write into ``folder``."""
    return folder.with_name(f"{folder.name}.lock")


def is_locked(folder: Path) -> bool:
    """Say if a process writes into ``folder`` now."""
    try:
        with lock_of(folder).open("rb") as handle:
            return machine.lock(handle.fileno(), shared=True) is False
    except OSError:
        return False


def note(folder: Path) -> None:
    """Note that this process uses ``folder`` until it ends, so that no one removes it meanwhile."""
    here = machine.this_process()
    file = folder / _USERS / f"{here.host}-{here.pid}.json"
    if file in _mine:
        return
    of(folder)  # takes away what killed processes left
    with suppress(OSError):  # a cache that is shared read-only cannot be removed either
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(here._asdict()), encoding="utf-8")
        if not _mine:
            atexit.register(_gone, os.getpid())
        _mine.add(file)


def hold(folder: Path) -> None:
    """Make ``folder`` where it is missing, and note that this process uses it, once no other one removes it."""
    with suppress(ResourceError, OSError), locked(folder, lambda text: None):
        folder.mkdir(parents=True, exist_ok=True)
        note(folder)


def of(folder: Path) -> list[Process]:
    """Return the processes that use ``folder``; those of other machines count, since they cannot be asked."""
    found = []
    for file in (folder / _USERS).glob("*.json"):
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            process = Process(str(about["host"]), str(about["boot"]), int(about["pid"]), str(about["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if machine.is_running(process) is not False:
            found.append(process)
        else:
            with suppress(OSError):
                file.unlink()
    return found


def _gone(process: int) -> None:
    """Take this process away from what it used; a child that was forked leaves its parent's notes alone."""
    for file in _mine if os.getpid() == process else ():
        with suppress(OSError):
            file.unlink()
