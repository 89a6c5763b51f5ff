"""The way to a compiled kernel: C++ source -> shared library, built once and kept.

A library is kept under the hash of its source, the flags and the instructions of this processor, so that a home folder
which several machines share holds one for each. It knows neither Python nor PyTorch, and outlives their updates.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

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
    """Return where libraries are kept: they are of this processor and user, whichever cache a run uses for data."""
    return Path(os.environ.get("TLTOOL_CACHE", "~/.cache/tltool")).expanduser() / "kernels"


def library(source: Path, definitions: tuple[str, ...], folder: Path, say: Callable[[str], None], /) -> ctypes.CDLL:
    """Return the library of ``source``, compiled into ``folder`` the first time, of which ``say`` hears.

    Headers beside it belong to it.
    ``definitions`` are macros, as in ``REAL=float``. Raises ResourceError where there is no compiler, it fails, or the
    folder cannot be written.
    """
    flags = [*_FLAGS, *_native(), *(f"-D{macro}" for macro in definitions)]
    texts = [part.read_text(encoding="utf-8") for part in (source, *sorted(source.parent.glob("*.h")))]
    facts = [*texts, *flags, platform.system(), platform.machine(), _instructions()]
    kept = folder / f"{source.stem}-{hashlib.sha256('|'.join(facts).encode()).hexdigest()[:16]}.so"
    if kept.is_file():
        try:
            return ctypes.CDLL(str(kept))
        except OSError:
            say(f"{kept} does not load and is built anew.")
    _build(source, flags, kept, say)
    try:
        return ctypes.CDLL(str(kept))
    except OSError as error:
        raise ResourceError(f"{kept} was built but does not load ({error}); use kernels=torch.") from error


def compiler() -> str | None:
    """Return the path of the C++ compiler that ``CXX`` names, or of the first usual one that is there."""
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else ["c++", "g++", "clang++"])), None)


def _build(source: Path, flags: list[str], kept: Path, say: Callable[[str], None]) -> None:
    command = compiler()
    if command is None:
        raise ResourceError("No C++ compiler was found; install g++ or clang++, name one in CXX, or use kernels=torch.")
    say(f"Compiling {source.name} for this processor (once, about 3 s).")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as work:
            made = Path(work) / kept.name
            words = [command, *flags, str(source), "-o", str(made)]
            done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=_PATIENCE)
            if done.returncode == 0:
                # Two processes may build at once: each renames a whole file, and either will do.
                made.replace(kept)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ResourceError(
            f"{kept} could not be built ({error}); use kernels=torch or name another folder in TLTOOL_CACHE."
        ) from error
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200].strip())
        raise ResourceError(f"{command} could not compile {source.name} ({reason}); use kernels=torch.")


def _native() -> list[str]:
    return ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []


def _instructions() -> str:
    """Return what the processor says that it can do, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
