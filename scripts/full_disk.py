"""Let the disk be full at every write of a run in turn, and see what the run says and what goes on from there.

A disk is full in two ways: at the n-th opening, renaming or making of a file, n = 1, 2, 3 ... until the run passes
(errno ENOSPC from below every writer in Python), and, where a small file system may be mounted, at every size of it,
which reaches the writers in C (HDF5) as well. A run has to end with exit code 6 and one sentence; with space again it
goes on, and gives what a run gives that always had space. Run by ``make soak``.
"""

import argparse
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import soak

from tltool.errors import ResourceError

FEW = ["split.train_size=40", "split.val=0.03", "split.test=0.02", "threads=1", "kernels=torch", "overlap=none"]
CALLS = ("os.rename", "os.mkdir", "os.link", "os.truncate")
MOST = 400  # writes of a run


class Command(NamedTuple):
    """A run: its ``words``, those that continue it, the folder that is on the disk, and what its ``result`` is."""

    name: str
    words: list[str]
    again: list[str]
    place: str
    result: Callable[[Path], str]


def commands() -> list[Command]:
    """Return what is run."""
    own = ["fit.epochs=2", "fit.batch_size=20", "keep_every=0", "cache=../cache"]
    pretrain = ["pretrain", *FEW, *own, "resume=latest", "runs=disk/runs"]
    transfer = ["transfer", *FEW, *own[:2], own[3], "mode=finetune", "source=bundled"]
    prepare = ["prepare", "data=dielectric", "cache=disk/cache", "hydra.run.dir=run"]
    return [
        Command("pretrain", pretrain, pretrain, "disk", _of_pretraining),
        Command("transfer", [*transfer, "hydra.run.dir=disk/a"], [*transfer, "hydra.run.dir=disk/b"], "disk", _of_last),
        Command("prepare", prepare, [*prepare[:-1], "hydra.run.dir=again"], "disk", _of_cache),
    ]


def _of_pretraining(home: Path) -> str:
    finished = [f.parent for f in home.glob("disk/runs/pretrain/*/metrics.json") if (f.parent / "model").is_dir()]
    return soak.digest(finished[-1], "predictions.csv", "split.csv", "model/*.safetensors") if finished else "nothing"


def _of_last(home: Path) -> str:
    folder = home / "disk" / ("b" if (home / "disk" / "b").is_dir() else "a")
    return soak.digest(folder, "predictions.csv", "model/*.safetensors")


def _of_cache(home: Path) -> str:
    return soak.digest(home, "disk/cache/*/*.h5")


def full_at(number: int, folder: Path) -> None:
    """From now on, let write ``number`` below ``folder`` in this process, and all after it, find no space."""
    below, seen = f"{folder}{os.sep}", [0]

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = given
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            writes = writes or (isinstance(mode, str) and not set(mode).isdisjoint("wxa+"))
        elif event in CALLS:
            path, writes = given[1 if event in ("os.rename", "os.link") else 0], True
        else:
            return
        if not writes or not isinstance(path, str | os.PathLike) or not os.path.abspath(path).startswith(below):  # noqa: PTH100
            return
        seen[0] += 1
        if seen[0] >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))

    sys.addaudithook(hook)


def run(words: list[str], home: Path, before: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Run tltool in a fork, after ``before`` there; return the exit code and what it said."""
    (home / "said.txt").unlink(missing_ok=True)
    code = soak.ended(soak.started(words, home, before), None)
    return code or 0, (home / "said.txt").read_text()


def wrong(command: Command, home: Path, code: int, said: str, expected: str) -> str:
    """Return what is wrong with a run on a full disk, and with the one that goes on from there; "" for nothing."""
    last = said.splitlines()[-1:] or [""]
    if code not in (0, ResourceError.code):
        return f"exit code {code}: {last[0]}"
    sentences = [line for line in said.splitlines() if line.startswith("tltool: ")]
    if "Traceback" in said or (code and len(sentences) != 1):
        return f"it said {said[-400:]}"
    again, said = (0, "") if code == 0 else run(command.again, home)
    found = command.result(home) if again == 0 else f"exit code {again}: {said[-300:]}"
    return "" if found == expected else f"{found} and not {expected}"


def at_every_write(command: Command, place: Path, step: int, expected: str) -> tuple[int, list[str]]:
    """Fill the disk at write 1, 1 + ``step`` and so on; return how often that was, and what was wrong."""
    faults: list[str] = []
    number = 1
    while number < MOST:
        home = _home(place / f"{command.name}-{number}")
        code, said = run(command.words, home, partial(full_at, number, home / command.place))
        if fault := wrong(command, home, code, said, expected):
            faults.append(f"{command.name}, write {number}: {fault}")
        passed = code == 0 and "No space left" not in said and "disk is full" not in said
        shutil.rmtree(home)
        if passed:
            break
        number += step
    return number, faults


def at_every_size(command: Command, place: Path, step: int, expected: str) -> tuple[int, list[str]]:
    """Give the run a disk of ``step`` kB, twice that and so on, until it fits."""
    faults: list[str] = []
    for number in range(1, MOST):
        home = _home(place / f"{command.name}-size-{number}")
        with mounted(home / command.place, number * step) as resize:
            code, said = run(command.words, home)
            resize(100_000)
            if fault := wrong(command, home, code, said, expected):
                faults.append(f"{command.name}, {number * step} kB: {fault}")
        shutil.rmtree(home)
        if code == 0:
            return number, faults
    return MOST, faults


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Callable[[int], None]]:
    """Mount a disk of ``size`` kB; give what changes its size."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)], check=True)
    try:
        yield partial(_resize, folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}k", str(folder)], check=True)


def may_mount(place: Path) -> bool:
    """Say if a small disk can be mounted here."""
    folder = _home(place / "mount")
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        if subprocess.run(words, capture_output=True, check=False).returncode:
            return False
    except OSError:
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True


def _home(folder: Path) -> Path:
    (folder / "disk").mkdir(parents=True)
    return folder


def main() -> None:
    """Fill the disk, and list what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", type=int, default=1, help="every so many writes")
    parser.add_argument("--size", type=int, default=24, help="kB by which a mounted disk grows")
    parser.add_argument("--only", default="", help="names that begin so")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="full-disk-"))
    faults: list[str] = []
    for command in [command for command in commands() if command.name.startswith(given.only)]:
        whole = _home(place / f"{command.name}-whole")
        code, said = run(command.words, whole)
        if code:
            sys.exit(f"{command.name} with space ended with {code}: {said[-300:]}")
        expected = command.result(whole)
        ways = [(at_every_write, given.step, "writes")]
        ways += [(at_every_size, given.size, "sizes")] if may_mount(place / command.name) else []
        for way, step, what in ways:
            number, wrong_ = way(command, place, step, expected)
            faults += wrong_
            print(f"{command.name}: the disk was full at {number} {what}, {len(wrong_)} wrong.", flush=True)
    for fault in faults:
        print(fault)
    if not faults:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
