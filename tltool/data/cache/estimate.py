"""What preparing a data set will take, from the list of its files and the time that one of them took."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tltool.data import dataset, prepare
from tltool.data.cache import users
from tltool.data.cache.timed_shard import Timed, timed, was_timed
from tltool.data.dataset import Means
from tltool.data.download import listing, locate, sizes
from tltool.data.download.fetch import fetch
from tltool.data.download.http import Limits
from tltool.data.download.sizes import Listed
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.prepare import Task
from tltool.errors import DataError

_PER_RECORD = 40
"""Bytes of memory for each record while the files are joined: hashes of ids, in the order of their values."""


@dataclass(frozen=True)
class Estimate:
    """What is still to be done for a data set.

    ``files`` in all and ``done`` of them; ``fetch`` and ``disk`` in bytes (``fetch`` is part of ``disk``), ``memory``
    in bytes, ``seconds`` without the download. None stands for what cannot be known: the size of a file that a server
    does not tell, and the cost of a data set that is a single file.
    """

    files: int
    done: int
    fetch: int | None
    disk: int | None = None
    memory: int | None = None
    seconds: float | None = None
    timed: Timed | None = None


def estimate(description: Mapping[str, Any], graph_settings: GraphSettings, means: Means) -> Estimate:
    """Return what preparing the data set of a YAML ``description`` will take.

    One of its files is downloaded if none is here, and prepared if none was timed before; both are kept. Raise the
    errors of ``dataset.prepared``.
    """
    dataset.refuse_keys(description)
    away = locate.download(description, means.cache)
    if away is None:
        if description["root"] is None:
            name = description["name"]
            raise DataError(f"How much {name} has is known only when it is downloaded; run tltool prepare data={name}.")
        return _local(
            locate.root(description, means.cache, means.plugins, means.say), description, graph_settings, means
        )
    address, target = away
    files = sizes.listed(description, address, target, Limits(), means.say)
    if len(files) == 1 or all(file.here for file in files):
        if not files[0].here:
            return Estimate(len(files), 0, files[0].size, disk=files[0].size)
        return _local(
            locate.root(description, means.cache, means.plugins, means.say), description, graph_settings, means
        )
    if not any(file.here for file in files):
        files = _with_one(files, description, address, target, means)
    folder, tasks = dataset.planned(target, description, graph_settings, means)
    there = {task.source.name for task in tasks}
    waiting = [file for file in files if file.name not in there]
    return _of_shards(folder, tasks, waiting, graph_settings, means)


def free(cache: Path) -> int:
    """Return the bytes that are free where ``cache`` is, or will be made."""
    place = next(path for path in (cache.absolute(), *cache.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free


def _with_one(
    files: Sequence[Listed], description: Mapping[str, Any], address: str, target: Path, means: Means
) -> list[Listed]:
    """Download the first of ``files``, to see what one takes; return the files as they are now."""
    name = files[0].name
    known = (description.get("sha256") or {}).get(name)
    whence, watch = listing.joined(address, name), listing.spoken(means.say)
    path = fetch(whence, target / name, sha256=known, limits=Limits(), say=means.say, progress=watch)
    return [Listed(name, path.stat().st_size, here=True), *files[1:]]


def _local(root: Path, description: Mapping[str, Any], graph_settings: GraphSettings, means: Means) -> Estimate:
    folder, tasks = dataset.planned(root, description, graph_settings, means)
    if len(tasks) == 1:
        done = prepare.done(tasks[0]) is not None
        return Estimate(1, int(done), 0, disk=0 if done else None)
    return _of_shards(folder, tasks, [], graph_settings, means)


def _of_shards(
    folder: Path, tasks: Sequence[Task], waiting: Sequence[Listed], graph_settings: GraphSettings, means: Means
) -> Estimate:
    """Return what the files ``tasks``, which are here, and those ``waiting`` to be downloaded will take."""
    with users.locked(folder, means.say):
        left = [task for task in tasks if prepare.done(task) is None]
        whole = not left and not waiting and bool(dataset.joined(folder, graph_settings))
        if whole:
            return Estimate(len(tasks), len(tasks), 0, disk=0, memory=0, seconds=0.0)
        by_size = sorted(left or tasks, key=lambda task: task.source.stat().st_size)
        first = next((task for task in tasks if was_timed(task)), by_size[len(by_size) // 2])
        one = timed(first, means.say)
        left = [task for task in tasks if prepare.done(task) is None]
    here = sum(task.source.stat().st_size for task in tasks)
    sizes_ = [file.size for file in waiting]
    unknown = any(size is None for size in sizes_)
    # A file of unknown size counts as one of the usual size.
    to_fetch = sum(size if size is not None else here // len(tasks) for size in sizes_)
    to_do = sum(task.source.stat().st_size for task in left) + to_fetch
    share, all_ = to_do / one.source, (here + to_fetch) / one.source
    workers = max(1, min(means.workers, len(left) + len(waiting)))
    return Estimate(
        files=len(tasks) + len(waiting),
        done=len(tasks) - len(left),
        fetch=None if unknown else to_fetch,
        disk=round(to_fetch + share * one.written + all_ * one.joined),
        memory=round(workers * one.memory + psutil.Process().memory_info().rss + _PER_RECORD * all_ * one.records),
        seconds=share * one.seconds / workers + all_ * one.join_seconds,
        timed=one,
    )
