"""Prepare many shards of a data set at once, each in a process of its own.

Nothing heavy is imported here, since every process imports this module.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tltool import interruption
from tltool.data import prepare
from tltool.data.prepare import Say, Shard, Task
from tltool.errors import ResourceError, TltoolError

_PATIENCE = 600.0  # seconds


def prepared(tasks: list[Task], workers: int, say: Say) -> list[Shard]:
    """Return the result of every task, in order; tasks that are complete are not run again.

    If a shard cannot be read, the others are still prepared; then its error is raised.
    """
    found = {task.place: shard for task in tasks if (shard := prepare.done(task)) is not None}
    todo = [task for task in tasks if task.place not in found]
    for old in {task.place.parent for task in todo}:
        for stale in old.glob(".*.tmp"):
            stale.unlink(missing_ok=True)
    errors: list[TltoolError] = []
    for task, outcome in _outcomes(todo, min(workers, len(todo)), say):
        if isinstance(outcome, TltoolError):
            errors.append(outcome)
            continue
        found[task.place] = outcome
        if len(tasks) > 1:
            out = sum(outcome.dropped.values())
            say(f"{task.source.name}: {outcome.kept:,} kept, {out:,} left out ({len(found)} of {len(tasks)} files)")
    if errors:
        if len(tasks) > 1:
            text = f"{errors[0]} ({len(errors)} of {len(tasks)} files could not be prepared; the others are done.)"
            raise type(errors[0])(text) from errors[0]
        raise errors[0]
    return [found[task.place] for task in tasks]


def _outcomes(todo: list[Task], workers: int, say: Say) -> Iterator[tuple[Task, Shard | TltoolError]]:
    if workers <= 1:
        for task in todo:
            interruption.check()
            yield task, _attempt(task)
        return
    # Start a new interpreter for each: a fork of a process with torch threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_deaf) as pool:
        waiting = {pool.submit(_attempt, task): task for task in todo}
        try:
            for future in _ended(waiting, say):
                interruption.check()
                yield waiting[future], future.result()
        except BrokenProcessPool as error:
            raise ResourceError(
                "A process that prepares data was killed, probably for lack of memory; set a smaller workers= "
                "and run again: "
                "prepared files are kept."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _ended(waiting: Mapping[Any, Task], say: Say) -> Iterator[Any]:
    """Yield what ends; ``say`` names what is worked on if nothing ends for long, as on a disk that does not answer."""
    left, quiet = set(waiting), 0
    while left:
        done, left = wait(left, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
        quiet = 0 if done else quiet + 1
        if not done:
            names = ", ".join(sorted(waiting[one].source.name for one in left if one.running()))
            say(f"Nothing has ended for {quiet * _PATIENCE / 60:.0f} min; still working on {names}.")
        yield from done


def _attempt(task: Task) -> Shard | TltoolError:
    try:
        return prepare.prepare(task)
    except TltoolError as error:
        return error


def _deaf() -> None:
    # Ctrl-C reaches every process of the group; the parent process ends this one.
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption.end_with_parent()
