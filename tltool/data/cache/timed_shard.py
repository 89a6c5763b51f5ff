"""Prepare one file of a data set in a process of its own, and measure what that takes."""

import json
import multiprocessing
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

from tltool import interruption
from tltool.data import memory_mapped, prepare
from tltool.data.prepare import Say, Task
from tltool.errors import ResourceError


@dataclass(frozen=True)
class Timed:
    """What one file took: its bytes and records, seconds and bytes of memory, and bytes that were written.

    ``join_seconds`` and ``joined`` (bytes) are those of its share of the one table that all files make together.
    """

    source: int
    records: int
    seconds: float
    memory: int
    written: int
    join_seconds: float
    joined: int


def was_timed(task: Task) -> bool:
    """Say if an earlier call measured ``task``, and what it prepared is still there."""
    return _measured_before(task) is not None


def timed(task: Task, say: Say) -> Timed:
    """Return what preparing ``task`` took; it is prepared now unless an earlier call measured it.

    Its prepared files are kept, as those of any other run are. Of a task that another run prepared only the joining is
    measured. Raise the errors of ``prepare.prepare``.
    """
    if (before := _measured_before(task)) is not None:
        return before
    shard, seconds, memory = prepare.done(task), 0.0, 0
    if measure := shard is None:
        say(f"Preparing {task.source.name}, to see what a file takes; its prepared files are kept.")
        # A new interpreter: a fork of a process with torch threads may hang, and its peak of memory would be another's.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, initializer=interruption.end_with_parent) as pool:
            try:
                seconds, memory, shard = pool.submit(_measured, task).result()
            except BrokenProcessPool as error:
                raise ResourceError(
                    f"The process that prepared {task.source.name} was killed, probably for lack of memory; free some."
                ) from error
    parts = [(task.part(n), task.graphs(n)) for n in range(shard.parts)]
    join_seconds, joined = _joined(parts, task) if parts else (0.0, 0)
    written = sum(path.stat().st_size for pair in parts for path in pair)
    found = Timed(task.source.stat().st_size, shard.kept, seconds, memory, written, join_seconds, joined)
    if measure:
        prepare.write(_record(task), json.dumps(asdict(found)))
    return found


def _measured(task: Task) -> tuple[float, int, prepare.Shard]:
    began = time.perf_counter()
    shard = prepare.prepare(task)
    return time.perf_counter() - began, _peak(), shard


def _peak() -> int:
    """Return the most bytes of memory that this process has used; those of now where the system does not tell."""
    try:
        import resource
    except ImportError:
        import psutil

        return int(psutil.Process().memory_info().rss)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _joined(parts: list[tuple[Path, Path]], task: Task) -> tuple[float, int]:
    """Return the seconds and bytes of joining ``parts``, in a folder that is removed again."""
    place = task.place.with_name(f".{task.place.name}.tried")
    began = time.perf_counter()
    try:
        memory_mapped.join(parts, place)
        return time.perf_counter() - began, sum(path.stat().st_size for path in place.iterdir())
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _record(task: Task) -> Path:
    return task.place.with_name(f"{task.place.name}-{task.graph_settings.key()}.timed.json")


def _measured_before(task: Task) -> Timed | None:
    if prepare.done(task) is None:
        return None
    try:
        return Timed(**json.loads(_record(task).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
