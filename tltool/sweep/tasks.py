"""Tasks of one run, such as the folds of a cross-validation, at once: in a process for every core, and in turns there.

A run that is part of a sweep has no processes of its own; there its tasks follow each other (``run_folder/run.py``).
"""

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from tltool import interruption, machine
from tltool.errors import ResourceError, TltoolError
from tltool.run_folder.run import Several, Task
from tltool.sweep.stacked_fit import train_all
from tltool.sweep.turns import in_turns
from tltool.training import setup

_AT_ONCE = 8  # tasks whose models are in memory together, and which end at the same time


def several(config: Mapping[str, Any], device: torch.device) -> Several:
    """Return what does tasks of a run of ``config`` that computes on ``device``, many at once."""

    def run(tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        # A process that computed with several threads before it forks leaves locks in the new one that nobody opens.
        alone = device.type != "cpu" or sys.platform != "linux" or torch.get_num_threads() > 1
        processes = 1 if alone else min(setup.workers(config), -(-len(tasks) // 2))
        return _here(tasks, range(len(tasks))) if processes < 2 else _in_processes(tasks, processes)

    return run


def _here(tasks: Sequence[Task], numbers: Sequence[int]) -> Iterator[tuple[int, Any]]:
    for start in range(0, len(numbers), _AT_ONCE):
        some = numbers[start : start + _AT_ONCE]
        yield from zip(some, in_turns([tasks[k] for k in some], train_all), strict=True)


def _in_processes(tasks: Sequence[Task], processes: int) -> Iterator[tuple[int, Any]]:
    # What torch imports with the first optimiser takes a second, and would in every process.
    torch.optim.AdamW([torch.zeros(1)])
    forking = multiprocessing.get_context("fork")
    pipes, made = [], []
    for k in range(processes):
        here, there = forking.Pipe(duplex=False)
        process = forking.Process(target=_process, args=(tasks, range(k, len(tasks), processes), there))
        process.start()
        there.close()
        pipes.append(here)
        made.append(process)
    try:
        yield from _received(pipes, len(tasks))
    except BaseException:
        for process in made:
            if process.pid and process.is_alive():
                os.kill(process.pid, signal.SIGTERM)
        raise
    finally:
        for process in made:
            process.join()


def _process(tasks: Sequence[Task], numbers: Sequence[int], pipe: Connection) -> None:
    os.environ["TLTOOL_JOBS"] = str(machine.cores())  # so that kernels take one thread
    interruption.in_child()
    try:
        for found in _here(tasks, numbers):
            pipe.send(found)
    except KeyboardInterrupt:
        sys.exit(interruption.CODE)
    except TltoolError as error:
        pipe.send((-1, error))
    except Exception as error:
        traceback.print_exc()
        pipe.send((-1, RuntimeError(f"{type(error).__name__}: {error}")))


def _received(pipes: Sequence[Connection], count: int) -> Iterator[tuple[int, Any]]:
    """Yield what the processes send as it comes; raise the first error among it."""
    waiting, got = list(pipes), 0
    while waiting:
        ready = wait(waiting)
        for pipe in [pipe for pipe in waiting if pipe in ready]:
            try:
                number, found = pipe.recv()
            except EOFError:
                waiting.remove(pipe)
                continue
            if isinstance(found, Exception):
                raise found
            got += 1
            yield number, found
    if got < count:
        raise ResourceError("A process of this run ended early, probably for lack of memory; use workers=1.")
