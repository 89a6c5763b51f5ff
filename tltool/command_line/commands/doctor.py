"""``tltool doctor``: what this machine offers tltool, a line each, with what to do where something is missing."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from tltool import machine
from tltool.errors import ConfigError, ResourceError, TltoolError, nearest

_PACKAGES = ("tltool", "torch", "dgl", "pymatgen", "hydra-core", "omegaconf", "rich", "h5py", "numpy", "scikit-learn")
_OPTIONAL = ("dgl",)
_KEYS = ("cache", "runs")
_ENOUGH = 2e9  # bytes
_OK, _NOTE, _BAD = "ok", "note", "do"


class Line(NamedTuple):
    """What was found about ``topic``: ``ok``, a ``note`` that a user may want to know, or something to ``do``."""

    state: str
    topic: str
    text: str


def doctor(words: Sequence[str]) -> tuple[str, int]:
    """Return what this machine offers, and the exit code: that of ResourceError if something stops runs.

    ``words`` may be ``cache=DIR`` and ``runs=DIR``. Raises ConfigError for others.
    """
    given = dict(_setting(word) for word in words)
    cache = Path(given.get("cache") or os.environ.get("TLTOOL_CACHE") or "~/.cache/tltool").expanduser()
    parts = (_python, _packages, _processor, _gpu, _kernels, _models)
    lines = [line for part in parts for line in part()]
    lines += [_folder("cache", cache), _folder("runs", Path(given.get("runs") or "runs").expanduser())]
    first = max(len(line.topic) for line in lines)
    text = "\n".join(f"{line.state:<5} {line.topic:<{first}}  {line.text}" for line in lines)
    return text, ResourceError.code if any(line.state == _BAD for line in lines) else 0


def _setting(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    if key not in _KEYS or not value:
        raise ConfigError(f"tltool doctor takes cache=DIR and runs=DIR, not {word!r}.{nearest(key, _KEYS)}")
    return key, value


def _python() -> Iterator[Line]:
    known = (3, 11) <= sys.version_info < (3, 14)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Line(_OK if known else _NOTE, "Python", text if known else f"{text}; tltool was tested with 3.11 to 3.13")


def _packages() -> Iterator[Line]:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Line(_OK, "packages", ", ".join(found))
    for name in missing:
        if name in _OPTIONAL:
            yield Line(_NOTE, name, "not installed; only kernels=dgl needs it")
        else:
            yield Line(_BAD, name, f"not installed; run {sys.executable} -m pip install {name}")


def _processor() -> Iterator[Line]:
    free, cores = machine.free_cores(), machine.cores()
    yield Line(_OK, "processor", f"{_many(cores, 'core')}, {free} of them free now")


def _gpu() -> Iterator[Line]:
    import torch

    there = _seen_by_the_driver()
    release = torch.__version__.partition("+")[0]
    if torch.version.cuda is None:
        if not there:
            yield Line(_OK, "GPU", "none; tltool computes on the processor")
            return
        yield Line(_OK, "driver", "; ".join(there))
        command = f"{sys.executable} -m pip install --force-reinstall torch=={release}"
        yield Line(_BAD, "GPU", f"torch {torch.__version__} was built without CUDA; run {command}")
        return
    yield Line(_OK, "CUDA", f"torch {torch.__version__} was built with CUDA {torch.version.cuda}")
    if not torch.cuda.is_available():
        why = "the driver is too old for this CUDA, or CUDA_VISIBLE_DEVICES hides the GPUs" if there else "no driver"
        yield Line(_BAD if there else _NOTE, "GPU", f"torch finds none ({why}); tltool computes on the processor")
        return
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        yield Line(_OK, f"cuda:{number}", f"{name}, {_size(total)} of memory, {_size(free)} free")


def _seen_by_the_driver() -> list[str]:
    """Return name, memory and driver of each GPU as nvidia-smi tells them; nothing without it."""
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    words = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _kernels() -> Iterator[Line]:
    from tltool.training import backend

    said: list[str] = []
    try:
        chosen = backend.choose("auto", "auto", 1, said.append)
    except TltoolError as error:
        yield Line(_BAD, "kernels", str(error))
        return
    told = f" ({' '.join(said)})" if said else ""
    if chosen.name == "torch" and chosen.device.type == "cpu":
        what = "plain PyTorch" + (told or " (there is no C++ compiler)")
        yield Line(_NOTE, "kernels", f"{what}; with a C++ compiler, such as g++, training takes a fraction of the time")
        return
    yield Line(_OK, "kernels", f"kernels=auto takes {chosen.name} on {chosen.device}{told}")


def _models() -> Iterator[Line]:
    from tltool.run_folder import bundled_models

    names = ", ".join(f"bundled/{name}" for name in bundled_models.names())
    yield Line(_OK if names else _NOTE, "pretrained", names or "none ship with this installation")


def _folder(name: str, folder: Path) -> Line:
    """Return whether ``folder``, or where it would be made, can be written, and how much space is left."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Line(_BAD, name, f"{folder} cannot be written ({error.strerror}); name another folder with {name}=DIR")
    free = shutil.disk_usage(place).free
    text = f"{folder}, {_size(free)} free"
    return Line(_OK, name, text) if free > _ENOUGH else Line(_BAD, name, f"{text}; make space, or set {name}=DIR")


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB"


def _many(number: int, word: str) -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"
