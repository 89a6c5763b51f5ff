"""Compile C++ source to a shared library, once, and keep it.

A library is kept under the hash of its source, the flags and the instructions of this processor, so that a home folder
which several machines share holds one for each. It knows neither Python nor PyTorch, and outlives their updates. Beside
it stands a record: its sha256, and what it was checked for (``self_check.py``). A library is loaded only from a folder
that nobody else can write to, if it is this user's own and its bytes are those of the record; else it is built again.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tltool.errors import ResourceError

# Not -ffast-math: NaN has to stay NaN, and a library linked with it changes the arithmetic of the whole process.
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-shared",
    "-fPIC",
    "-pthread",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
)
_PATIENCE = 300  # seconds


def folder() -> Path:
    """Return the folder of compiled libraries, which depends on the user and not on the cache of a run."""
    return Path(os.environ.get("TLTOOL_CACHE", "~/.cache/tltool")).expanduser() / "kernels"


def library(source: Path, definitions: tuple[str, ...], folder: Path, say: Callable[[str], None], /) -> ctypes.CDLL:
    """Return the library of ``source``, compiled into ``folder`` the first time, of which ``say`` hears.

    Headers beside it belong to it.
    ``definitions`` are macros, as in ``REAL=float``. Raises ResourceError where there is no compiler, it fails, or the
    folder cannot be written, is another user's or can be written by others.
    """
    flags = [*_FLAGS, *_native(), *(f"-D{macro}" for macro in definitions)]
    texts = [part.read_text(encoding="utf-8") for part in (source, *sorted(source.parent.glob("*.h")))]
    facts = [*texts, *flags, platform.system(), platform.machine(), _instructions()]
    kept = folder / f"{source.stem}-{hashlib.sha256('|'.join(facts).encode()).hexdigest()[:16]}.so"
    _check_closed(folder)
    if os.path.lexists(kept):
        fault = _fault(kept)
        if not fault:
            try:
                return ctypes.CDLL(str(kept))
            except OSError:
                fault = "cannot be loaded"
        say(f"{kept} {fault}; tltool compiles it again.")
    _build(source, flags, kept, say)
    try:
        return ctypes.CDLL(str(kept))
    except OSError as error:
        raise ResourceError(f"{kept} was compiled but cannot be loaded ({error}); use kernels=torch.") from error


def passed(library: ctypes.CDLL, check: str, /) -> bool:
    """Return whether the record of ``library`` says that it passed ``check``."""
    return check in _record(Path(library._name)).get("checked", [])


def remember(library: ctypes.CDLL, check: str, /) -> None:
    """Record that ``library`` passed ``check``, if there is a record that can be written."""
    kept = Path(library._name)
    record = _record(kept)
    checked = record.get("checked", [])
    if record and check not in checked:
        # Two processes may write at once: a check that is lost is made again.
        with contextlib.suppress(OSError):
            _write(kept, record | {"checked": [*checked, check]})


def compiler() -> str | None:
    """Return the path of the C++ compiler in ``CXX``, or of the first common one that is installed."""
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else ["c++", "g++", "clang++"])), None)


def _build(source: Path, flags: list[str], kept: Path, say: Callable[[str], None]) -> None:
    command = compiler()
    if command is None:
        raise ResourceError(
            "No C++ compiler was found; install g++ or clang++, set CXX to a compiler, or use kernels=torch."
        )
    say(f"Compiling {source.name} for this processor (once, about 3 s).")
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as work:
            made = Path(work) / kept.name
            words = [command, *flags, str(source), "-o", str(made)]
            done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=_PATIENCE)
            if done.returncode == 0:
                made.chmod(0o700)
                # Two processes may build at once: each renames whole files, and either's will do.
                _write(kept, {"sha256": _sha256(made)})
                made.replace(kept)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ResourceError(
            f"{kept} could not be compiled ({error}); use kernels=torch, or set TLTOOL_CACHE to another folder."
        ) from error
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200].strip())
        raise ResourceError(f"{command} could not compile {source.name} ({reason}); use kernels=torch.")


def _check_closed(folder: Path) -> None:
    """Raise ResourceError if somebody else could put a library into ``folder``, or another folder into its place."""
    try:
        there, above = folder.stat(), folder.parent.stat()
    except OSError:
        return  # not there yet; what else is wrong with it comes up when something is built into it
    if not _own(there):
        raise ResourceError(
            f"{folder} belongs to another user, whose code would be run; name another folder in TLTOOL_CACHE, or use "
            "kernels=torch."
        )
    open_above = above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX
    if there.st_mode & stat.S_IWOTH or open_above:
        place = folder.parent if open_above else folder
        raise ResourceError(
            f"Every user can write to {place} and put code there that would be run; close it with chmod o-w {place}, "
            "or use kernels=torch."
        )
    if there.st_mode & stat.S_IWGRP:
        # Made so by a umask that trusts the group. What others of it have left there is not this user's own.
        with contextlib.suppress(OSError):
            folder.chmod(stat.S_IMODE(there.st_mode) & ~stat.S_IWGRP)


def _fault(kept: Path) -> str:
    """Return the reason not to load ``kept``; empty if it is the file that this user compiled."""
    if not _safe(kept):
        return "belongs to another user, or other users can write to it"
    recorded = _record(kept).get("sha256")
    if recorded is None:
        return "has no record of its sha256"
    return "" if _sha256(kept) == recorded else "is not the compiled file (its sha256 differs)"


def _safe(path: Path) -> bool:
    """Return whether ``path`` is a plain file that only this user can write to."""
    there = path.lstat()
    return stat.S_ISREG(there.st_mode) and _own(there) and not there.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _own(there: os.stat_result) -> bool:
    # The administrator's files count as one's own: who is root needs no library to run code.
    return not hasattr(os, "geteuid") or there.st_uid in (os.geteuid(), 0)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _record(kept: Path) -> dict[str, Any]:
    """Return the record of ``kept``; empty if there is no trusted record."""
    path = kept.with_suffix(".json")
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if _safe(path) else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(kept: Path, record: dict[str, Any]) -> None:
    with tempfile.NamedTemporaryFile("w", dir=kept.parent, suffix=".json", delete=False, encoding="utf-8") as file:
        json.dump(record, file)
    Path(file.name).replace(kept.with_suffix(".json"))


def _native() -> list[str]:
    return ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []


def _instructions() -> str:
    """Return the instruction sets of the processor, if the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
