"""Run a sweep: runs that differ only in seed and split train at the same time, with one process per core.

Every run has its own folder, log and exit code. Data that several runs need are made once.
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tltool import interruption
from tltool.errors import ResourceError
from tltool.run_folder.run import Company
from tltool.sweep.stacked_fit import train_all
from tltool.sweep.turns import Ask, in_turns
from tltool.training import setup
from tltool.training.backend import device_called

_AT_ONCE = 16  # largest number of runs in memory at the same time
_OWN = ("seed", "split")


class Job(NamedTuple):
    """A run of the sweep: its config, its folder, and the keys in which it differs from the others, as words."""

    config: Mapping[str, Any]
    folder: Path
    name: str


Work = Callable[[Job, Company], int]
# What one process does: a part of every study.
_Share = Sequence[Sequence[Job]]


class _Ended:
    """Counts the runs that have ended, in all processes."""

    def __init__(self, jobs: int) -> None:
        self._number = multiprocessing.get_context("fork").Value("i", 0) if sys.platform == "linux" else None
        self._jobs, self._began = jobs, time.monotonic()
        self._here = 0

    def count(self) -> str:
        """Count one more; return how many have ended, and how long the rest takes at this pace."""
        self._here += 1
        number = self._here
        if self._number is not None:
            with self._number.get_lock():
                self._number.value += 1
                number = self._number.value
        left = (time.monotonic() - self._began) / number * (self._jobs - number)
        return f"{number} of {self._jobs}" + (f", {_duration(left)} left" if number < self._jobs else "")


def _duration(seconds: float) -> str:
    """Return a time in words: 40 s, 3 min, 2.5 h."""
    if seconds < 100:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 6000 else f"about {seconds / 3600:.1f} h"


def run(jobs: Sequence[Job], work: Work, *, apart: bool = False) -> list[int]:
    """Call ``work`` for every job, many at the same time; return their exit codes in the order of ``jobs``.

    ``apart``: on the CPU never in this process, so that it can start others afterwards. One that computed with several
    threads leaves locks to those that it forks.
    """
    shares, ended = dealt(studies(jobs), _processes(jobs)), _Ended(len(jobs))
    here = len(shares) == 1 and not (apart and _forks(jobs))
    found = [_share(shares[0], work, ended)] if here else _in_processes(shares, work, ended)
    codes = {
        job.folder: code
        for share, codes in zip(shares, found, strict=True)
        for job, code in zip(_jobs(share), codes, strict=True)
    }
    return [codes[job.folder] for job in jobs]


def _in_processes(shares: Sequence[_Share], work: Work, ended: _Ended) -> list[list[int]]:
    # The first optimiser imports modules of torch for a second; do this once, before the fork.
    torch.optim.AdamW([torch.zeros(1)])
    forking = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for share in shares:
        here, there = forking.Pipe(duplex=False)
        process = forking.Process(target=_process, args=(share, work, ended, there, len(shares)))
        process.start()
        there.close()
        pipes.append(here)
        processes.append(process)
    try:
        return [_received(pipe, share) for pipe, share in zip(pipes, shares, strict=True)]
    except BaseException:
        for process in processes:
            if process.pid and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)
        raise
    finally:
        for process in processes:
            process.join()


def studies(jobs: Sequence[Job]) -> list[list[Job]]:
    """Return groups of jobs that differ only in seed and split, each no larger than the limit of runs in memory."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        shared = {key: value for key, value in job.config.items() if key not in _OWN}
        found.setdefault(json.dumps(_seedless(shared), sort_keys=True, default=str), []).append(job)
    return [study[k : k + _AT_ONCE] for study in found.values() for k in range(0, len(study), _AT_ONCE)]


def dealt(given: Sequence[Sequence[Job]], processes: int) -> list[list[list[Job]]]:
    """Return the part of every study for each process; there are at most ``n`` processes."""
    shares: list[list[list[Job]]] = [[] for _ in range(processes)]
    next_ = 0
    for study in given:
        parts = min(processes, len(study))
        for k in range(parts):
            shares[(next_ + k) % processes].append(list(study[k * len(study) // parts : (k + 1) * len(study) // parts]))
        next_ += parts
    return [share for share in shares if share]


def _processes(jobs: Sequence[Job]) -> int:
    """Return the number of processes: one on a GPU, and one if processes cannot be forked."""
    config = jobs[0].config
    if not _forks(jobs):
        return 1
    threads = config["threads"]
    return max(1, min(len(jobs), setup.workers(config) // (threads if isinstance(threads, int) and threads > 0 else 1)))


def _forks(jobs: Sequence[Job]) -> bool:
    """Say if processes can be forked for ``jobs``: on the CPU, and where the system does it well."""
    names = {device_called("auto").type if job.config["device"] == "auto" else job.config["device"] for job in jobs}
    return names == {"cpu"} and sys.platform == "linux"


def _process(share: _Share, work: Work, ended: _Ended, pipe: Connection, processes: int) -> None:
    os.environ["TLTOOL_JOBS"] = str(processes)
    interruption.in_child()
    try:
        pipe.send(_share(share, work, ended))
    except KeyboardInterrupt:
        sys.exit(interruption.CODE)


def _received(pipe: Connection, share: _Share) -> list[int]:
    try:
        return list(pipe.recv())
    except EOFError:
        folders = ", ".join(str(job.folder) for job in _jobs(share))
        print(f"tltool: a process of the sweep stopped early (see {folders}); use fewer workers=.", file=sys.stderr)
        return [ResourceError.code] * len(_jobs(share))


def _jobs(share: _Share) -> list[Job]:
    return [job for study in share for job in study]


def _share(share: _Share, work: Work, ended: _Ended) -> list[int]:
    shared: dict[str, Any] = {}
    codes: list[int] = []
    for study in share:
        codes += in_turns([_task(job, work, shared, ended) for job in study], train_all)
    return codes


def _task(job: Job, work: Work, shared: dict[str, Any], ended: _Ended) -> Callable[[Ask], int]:
    return lambda ask: work(job, Company(job.name, ask, shared, ended.count))


def _seedless(node: Any) -> Any:
    """Return ``node`` without the seeds of estimators, which are set by the seed of the run."""
    if isinstance(node, Mapping):
        return {key: _seedless(value) for key, value in node.items() if key != "random_state"}
    return node
