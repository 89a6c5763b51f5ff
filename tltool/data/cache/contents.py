"""What stands in the cache: prepared data sets, downloads, compiled kernels, and features of frozen potentials.

Each has its size and its last use.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from tltool import machine
from tltool.data.cache import users
from tltool.errors import ResourceError

_OTHERS = {
    "kernels": "compiled kernels",
    "peers": "environments of make peers",
    "potentials": "features of frozen potentials",
}


class Entry(NamedTuple):
    """A folder that can be removed as a whole: the name by which it is called, and what it is.

    ``size`` in bytes, ``used`` when it was last used (seconds since 1970), ``busy`` who uses it now, empty for nobody.
    """

    name: str
    path: Path
    what: str
    size: int
    used: float
    busy: str


def entries(cache: Path) -> list[Entry]:
    """Return what stands in the folder ``cache``, the largest first."""
    found = [_entry(path, cache) for path in _folders(cache)]
    working = next((entry.busy for entry in found if entry.busy), "")
    # A run that works has loaded kernels, whichever data it uses.
    found = [entry._replace(busy=working) if entry.name == "kernels" else entry for entry in found]
    return sorted(found, key=lambda entry: -entry.size)


def size(folder: Path) -> int:
    """Return the bytes of all files in ``folder``."""
    return sum(size for _, size, _ in _files(folder))


def last_used(folder: Path) -> float:
    """Return when a file in ``folder`` was last read or written, as far as the file system notes it."""
    return max((when for _, _, when in _files(folder)), default=folder.stat().st_mtime)


def removed(entry: Entry) -> None:
    """Remove the folder of ``entry`` and the lock beside it; raise ResourceError if it is in use or stays."""
    lock = users.lock_of(entry.path)
    with lock.open("rb") if lock.is_file() else nullcontext() as handle:
        # Whoever begins to use it from now on waits for this lock, and then finds nothing.
        if (handle is not None and machine.lock(handle.fileno()) is False) or users.of(entry.path):
            raise ResourceError(f"{entry.name} has been taken by a run meanwhile; remove it when that has ended.")
        _remove(entry.path)
    with suppress(OSError):
        lock.unlink()


def _remove(path: Path) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.removed")
    try:
        path.rename(aside)  # at once for all others, who never see half of it
        shutil.rmtree(aside)
    except OSError as error:
        raise ResourceError(f"{path} cannot be removed ({error.strerror}); check its permissions.") from error


def _folders(cache: Path) -> Iterator[Path]:
    for path in sorted(cache.iterdir()) if cache.is_dir() else ():
        if path.is_dir() and not path.name.startswith("."):
            yield from (p for p in sorted(path.iterdir()) if p.is_dir()) if path.name == "downloads" else (path,)


def _entry(path: Path, cache: Path) -> Entry:
    name, lock = path.relative_to(cache).as_posix(), users.lock_of(path)
    used = lock.stat().st_mtime if lock.is_file() else last_used(path)
    return Entry(name, path, _what(path, name), size(path), used, _busy(path, cache))


def _what(path: Path, name: str) -> str:
    data = path.name.rpartition("-")[0]
    if name.startswith("downloads/"):
        return f"download of data={data}"
    if name in _OTHERS:
        return _OTHERS[name]
    if not re.search(r"-[0-9a-f]{12}$", path.name):
        return "not of tltool"
    try:
        attributes = json.loads((path / "current.json").read_text(encoding="utf-8"))["attributes"]
        return f"data={data}, prepared, {int(attributes['kept']):,} records"
    except (OSError, ValueError, KeyError, TypeError):
        return f"data={data}, prepared in part"


def _busy(path: Path, cache: Path) -> str:
    """Return who uses ``path``: a process that writes it, or a run that reads it; empty for nobody."""
    if users.is_locked(path):
        return "a process that prepares it"
    if path.parent.name == "downloads" and path.parent.parent == cache:
        if _is_downloading(path):
            return "a process that downloads it"
        data = path.name.rpartition("-")[0]
        reading = [place for place in cache.glob(f"{data}-*") if place.is_dir() and users.is_locked(place)]
        return f"a process that prepares {reading[0].name}" if reading else ""
    return ", ".join(f"process {process.pid} on {process.host}" for process in users.of(path))


def _is_downloading(path: Path) -> bool:
    folder = os.open(path, os.O_RDONLY)
    try:
        return machine.lock(folder, shared=True) is False
    finally:
        os.close(folder)


def _files(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Yield path, size in bytes and time of the last use of every file in ``folder``; links are not followed."""
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it is gone meanwhile
                facts = os.lstat(os.path.join(root, name))  # noqa: PTH118 - many files
                yield os.path.join(root, name), facts.st_size, max(facts.st_mtime, facts.st_atime)  # noqa: PTH118
