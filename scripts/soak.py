"""Kill runs at random moments, start them again, and compare the results with those of a run that was never stopped.

A kill is SIGKILL for the run and all its processes. The runs are forks of this process, so that a start takes no
seconds. Run by ``make soak COUNT=200``: so many kills in all, over every encoder's pretraining, ``prepare``, a
transfer, a sweep and a cross-validation. Results that are not identical to the bit end it with exit code 1.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import matplotlib.figure  # noqa: F401
import pandas  # noqa: F401
import sklearn.linear_model  # noqa: F401
import torch

from tltool import cli

# These and what stands above is imported so that a fork need not do it.
from tltool.command_line import job, launch  # noqa: F401
from tltool.evaluation.cross_validation import summary  # noqa: F401
from tltool.sweep import processes, tasks  # noqa: F401
from tltool.transfer import finetune  # noqa: F401

SMALL = ["split.train_size=60"]
NARROW = {"alignn": ["encoder.dim=16"], "cgat": ["encoder.dim=16"], "megnet": ["encoder.dim=16"]}
MOST = 60  # starts of one run, before it is given up


class Work(NamedTuple):
    """A command that can be killed and started again: the ``words`` of a start, and what its ``result`` is made of."""

    name: str
    words: Callable[[str], list[str]]
    result: Callable[[Path], str]


def digest(folder: Path, *patterns: str) -> str:
    """Return a digest of the content of the files of a run."""
    found = hashlib.sha256()
    files = sorted(file for pattern in patterns for file in folder.glob(pattern))
    for file in files:
        found.update(file.relative_to(folder).as_posix().encode())
        found.update(_content(file))
    return f"{len(files)} files {found.hexdigest()[:16]}" if files else "nothing"


def _content(file: Path) -> bytes:
    if file.suffix != ".h5":
        return file.read_bytes()
    with h5py.File(file, "r") as store:
        names: list[str] = []
        store.visit(names.append)
        tables = [store[name] for name in names]
        return b"".join(table[...].tobytes() for table in tables if isinstance(table, h5py.Dataset))


def started(words: list[str], home: Path, before: Callable[[], None] = lambda: None) -> int:
    """Start a run, after ``before``, in a process of its own, with all its processes in one group; return its id."""
    pid = os.fork()
    if pid:
        with suppress(OSError):  # whichever of the two comes first
            os.setpgid(pid, pid)
        return pid
    code = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        os.chdir(home)
        with (home / "said.txt").open("a", buffering=1) as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.stdout = sys.stderr = said
            before()
            code = cli._answer(words)
    finally:
        os._exit(code)
    return 0


def ended(pid: int, limit: float | None) -> int | None:
    """Wait for a run, for ``limit`` seconds at most; return its exit code, None if it was killed then."""
    until = None if limit is None else time.monotonic() + limit
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.01)


def works(encoders: list[str]) -> list[Work]:
    """Return what is killed."""
    own = ["transfer", "source=bundled", "cache=../cache", "threads=1", "kernels=torch", "overlap=none"]
    cv = [*own, "split=cv", "split.compare=none", "mode=features", "workers=1", "hydra.run.dir=folds"]
    one = [*own, *SMALL, "mode=finetune", "fit.epochs=4"]
    many = [*own, *SMALL, "-m", "mode=features,finetune", "seed=0,1", "fit.epochs=3", "workers=1"]
    return [
        *(Work(f"pretrain {name}", partial(_pretrain, name), _of_pretraining) for name in encoders),
        Work("prepare", lambda start: ["prepare", "data=demo", "cache=cache"], _of_cache),
        Work("transfer", lambda start: [*one, f"hydra.run.dir=runs/{start}"], _of_last),
        Work(
            "sweep",
            lambda start: [*many, "hydra.sweep.dir=many"],
            lambda home: digest(home, "many/*/predictions.csv", "many/*/model/*.safetensors"),
        ),
        Work("cross-validation", lambda start: cv, lambda home: digest(home / "folds", "pred*.csv", "model/*.s*")),
    ]


def _pretrain(encoder: str, start: str) -> list[str]:
    own = [f"encoder={encoder}", *NARROW.get(encoder, []), "fit.epochs=4", "fit.batch_size=20", "keep_every=0.002"]
    words = ["pretrain", *SMALL, *own, "threads=1", "kernels=torch", "overlap=none", "cache=../cache", "resume=latest"]
    return [*words, f"hydra.run.dir=runs/pretrain/{start}"]


def _of_last(home: Path) -> str:
    return digest(sorted(home.glob("runs/*"))[-1], "predictions.csv", "model/*.safetensors")


def _of_pretraining(home: Path) -> str:
    finished = [file.parent for file in home.glob("runs/pretrain/*/metrics.json") if (file.parent / "model").is_dir()]
    return digest(finished[-1], "predictions.csv", "split.csv", "model/*.safetensors") if finished else "nothing"


def _of_cache(home: Path) -> str:
    return digest(home / "cache", "*/*.h5")


def survived(work: Work, place: Path, kills: int, draw: random.Random) -> tuple[int, bool]:
    """Kill a run ``kills`` times at random; return how often that was, and if all results are those of a whole run."""
    name = work.name.replace(" ", "-")
    whole = _home(place / f"{name}-whole")
    began = time.monotonic()
    if code := ended(started(work.words("000"), whole), None):
        print(f"{work.name}: the run that is not killed ended with {code}: {(whole / 'said.txt').read_text()[-300:]}")
        return 0, False
    seconds, expected = time.monotonic() - began, work.result(whole)
    done, rounds, same = 0, 0, True
    while done < kills:
        home, code = _home(place / f"{name}-{rounds}"), None
        for start in range(MOST):
            limit = draw.uniform(0.0, 1.2 * seconds) if done < kills else None
            code = ended(started(work.words(f"{start:03}"), home), limit)
            if code is not None:
                break
            done += 1
        found = work.result(home) if code == 0 else f"exit code {code}"
        if found != expected:
            same = False
            print(f"{work.name}: {found} and not {expected}; see {home}", flush=True)
            break
        shutil.rmtree(home)
        rounds += 1
    told = "identical to the bit" if same else "DIFFERENT"
    print(f"{work.name}: {done} kills in {rounds} runs of {seconds:.1f} s, {told}", flush=True)
    return done, same


def _home(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def main() -> None:
    """Kill and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=40, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoders", default="cgcnn,megnet,cgat,alignn")
    parser.add_argument("--only", default="", help="names that begin so")
    given = parser.parse_args()
    torch.set_num_threads(1)
    place, draw = Path(tempfile.mkdtemp(prefix="soak-")), random.Random(given.seed)  # noqa: S311
    todo = [work for work in works(given.encoders.split(",")) if work.name.startswith(given.only)]
    counts, good = 0, True
    for k, work in enumerate(todo):
        share = given.count * (k + 1) // len(todo) - given.count * k // len(todo)
        done, same = survived(work, place, share, draw)
        counts, good = counts + done, good and same
    print(f"{counts} kills, {'every result identical to the bit' if good else 'NOT every result identical'}.")
    if good:
        shutil.rmtree(place, ignore_errors=True)
    sys.exit(not good)


if __name__ == "__main__":
    main()
