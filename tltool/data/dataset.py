"""A data set: its adapter reads the files, graphs are built, and the cache folder keeps both."""

import hashlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tltool import instantiate, quantities
from tltool.data import memory_mapped, parallel, prepare, store, structure_checks
from tltool.data.cache import users
from tltool.data.download import locate
from tltool.data.download.locate import BUNDLED
from tltool.data.graph import crystal_graphs
from tltool.data.graph.crystal_graphs import GraphSettings, GraphTable
from tltool.data.origin import Mark
from tltool.data.prepare import Shard, Task
from tltool.data.store import Store
from tltool.data.structure_checks import Checks
from tltool.errors import ConfigError, DamagedError, DataError, nearest

PROVENANCE = ("name", "address", "licence", "citation", "functional")
FURTHER = ("weight", "uncertainty", "conditions")
KEYS = (*PROVENANCE, *FURTHER, "root", "quantities", "file", "pattern", "sha256", "fetch", "adapter", "define")
Report = Callable[[str], None]
_CURRENT = "current.json"
_REPEATED = "the id is in an earlier file"


@dataclass(frozen=True)
class Dataset:
    """The records of a data set and their graphs, in the same order.

    ``folder`` is their folder in the cache and ``key`` the hash of their state; None and empty for a data set in
    memory.
    """

    store: Store
    graphs: GraphTable
    folder: Path | None = None
    key: str = ""


class Means(NamedTuple):
    """How to prepare a data set: cache folder, packages of ``_target_``, number of processes, function for messages.

    ``checks`` are the checks of crystals; None means those of configs/common.yaml.
    """

    cache: Path
    plugins: Iterable[str]
    workers: int
    say: Report
    checks: Checks | None = None


class Prepared(NamedTuple):
    """Stores and graphs of a data set on disk; ``fresh`` if this run made some of them."""

    parts: list[tuple[Path, Path]]
    folder: Path
    attributes: dict[str, str]
    tasks: list[Task]
    shards: list[Shard]
    fresh: bool


def opened(description: Mapping[str, Any], graph_settings: GraphSettings, means: Means, /) -> Dataset:
    """Return the data set of a YAML ``description``, from the cache if its input has not changed.

    Raise the errors of ``prepared``.
    """
    began = time.perf_counter()
    found = prepared(description, graph_settings, means)
    try:
        data = settled(found.parts, found.folder, graph_settings, found.attributes, (), means.say)
    except DamagedError as error:
        forget([found], found.folder, error, means.say)
        found = prepared(description, graph_settings, means)
        data = settled(found.parts, found.folder, graph_settings, found.attributes, (), means.say)
    if found.fresh:
        tell(data, description["name"], [found], time.perf_counter() - began, means.say)
    return data


def prepared(description: Mapping[str, Any], graph_settings: GraphSettings, means: Means, /) -> Prepared:
    """Read the files of a YAML ``description`` and build their graphs, unless an earlier run has done so.

    Files that match the description's ``pattern`` are prepared one by one in several processes. Records that are left
    out are counted by reason in the attributes. Raise DataError if there are no files or no usable records, and
    ConfigError for a key that a data YAML does not have.
    """
    refuse_keys(description)
    root = locate.root(description, means.cache, means.plugins, means.say)
    folder, tasks = planned(root, description, graph_settings, means)
    with users.locked(folder, means.say):
        fresh = any(prepare.done(task) is None for task in tasks)
        shards = parallel.prepared(tasks, means.workers, means.say)
    parts = [(t.part(n), t.graphs(n)) for t, s in zip(tasks, shards, strict=True) for n in range(s.parts)]
    attributes = dict(tasks[0].facts) | counts([(tasks, shards)])
    if not parts:
        raise DataError(
            f"The data set {description['name']!r} has no usable record in {root}: "
            f"{'; '.join(prepare.told(shards)) or 'its files are empty'}. Correct the files, or the keys that say "
            "how to read them."
        )
    return Prepared(parts, folder, attributes, tasks, shards, fresh)


def refuse_keys(description: Mapping[str, Any]) -> None:
    """Raise ConfigError for a key that a data YAML does not have."""
    for key in description:
        if key not in KEYS:
            raise ConfigError(f"There is no key data.{key}.{nearest(key, KEYS)}")


def planned(
    root: Path, description: Mapping[str, Any], graph_settings: GraphSettings, means: Means
) -> tuple[Path, list[Task]]:
    """Return the folder of the cache for what stands in ``root``, and one task for each of its files.

    Raise DataError if no file matches the pattern.
    """
    folder = means.cache / f"{description['name']}-{_key(root, description, means)}"
    return folder, _tasks(root, description, folder, graph_settings, means)


def joined(folder: Path, graph_settings: GraphSettings) -> list[Path]:
    """Return the folders in which the parts of the data set in ``folder`` are joined."""
    return [place for place in folder.glob(f"joined-{graph_settings.key()}-*") if memory_mapped.is_whole(place)]


def settled(
    parts: Sequence[tuple[Path, Path]],
    folder: Path,
    graph_settings: GraphSettings,
    attributes: Mapping[str, str],
    marks: Sequence[Mark],
    say: Report,
) -> Dataset:
    """Return ``parts`` as one data set, and record them in ``folder`` for ``at_hand``; ``marks`` as in ``join``."""
    with users.locked(folder, say):
        data = _whole(parts, folder, graph_settings, attributes, marks)
        names = [(os.path.relpath(a, folder), os.path.relpath(b, folder)) for a, b in parts]
        now = {"parts": names, "graph": vars(graph_settings), "attributes": dict(attributes), "marks": list(marks)}
        prepare.write(folder / _CURRENT, json.dumps(now))
        users.note(folder)
    return data


def forget(made: Sequence[Prepared], folder: Path, error: DamagedError, say: Report) -> None:
    """Delete the damaged ones of the prepared files, and what was joined of them in ``folder``; say what is damaged.

    They are prepared again from their input. Raise ``error`` again if none of them is damaged after all.
    """
    what = re.split(r" \(|;|: ", str(error), maxsplit=1)[0]
    say(f"{what}; it is made again from its input.")
    joined = list(folder.glob("joined-*"))
    bad = [task for one in made for task in one.tasks if not prepare.is_sound(task)]
    if not bad and not joined:
        raise error
    for task in bad:
        task.note.unlink(missing_ok=True)
        for file in task.place.parent.glob(f"{task.place.name}-*.h5"):
            file.unlink(missing_ok=True)
    for place in joined:
        shutil.rmtree(place, ignore_errors=True)


def _tasks(
    root: Path, description: Mapping[str, Any], folder: Path, graph_settings: GraphSettings, means: Means
) -> list[Task]:
    """Return one task for every file that matches the pattern, or one for the whole root."""
    pattern = description.get("pattern")
    sources = sorted(p for p in root.rglob(pattern) if p.is_file()) if pattern and root.is_dir() else [root]
    if not sources:
        raise DataError(f"There is no file {pattern} under {root}; put the files there or correct data.root.")
    facts = {k: str(description[k]) for k in PROVENANCE if description.get(k) is not None}
    facts["adapter"] = str(description["adapter"]["_target_"])
    facts |= {"define": quantities.as_text(description["define"])} if description.get("define") else {}
    node = dict(description["adapter"])
    places = [(source, folder / f"{source.name}-{_state(root, source, node)}") for source in sources]
    plugins = tuple(means.plugins)
    return [Task(source, place, node, plugins, facts, graph_settings, means.checks) for source, place in places]


def _whole(
    parts: Sequence[tuple[Path, Path]],
    folder: Path,
    graph_settings: GraphSettings,
    attributes: Mapping[str, str],
    marks: Sequence[Mark],
) -> Dataset:
    """Return the only part, or all of them joined."""
    facts = [[a.name for a, _ in parts], *([marks] if marks else [])]
    key = hashlib.sha256(json.dumps(facts if marks else facts[0]).encode()).hexdigest()[:12]
    if len(parts) == 1 and not marks:
        records, table = store.load(parts[0][0]), crystal_graphs.from_arrays(store.read_arrays(parts[0][1])[0])
        return Dataset(replace(records, attributes=attributes), table, folder, key)
    place = folder / f"joined-{graph_settings.key()}-{key}"
    if not memory_mapped.is_whole(place):
        for old in folder.glob(f"joined-{graph_settings.key()}-*"):
            shutil.rmtree(old, ignore_errors=True)
        memory_mapped.join(parts, place, marks)
    records, table, repeated = memory_mapped.opened(place, attributes)
    if repeated:
        dropped = Counter(json.loads(attributes["dropped"])) + Counter({_REPEATED: repeated})
        left = {"kept": str(len(records)), "dropped": json.dumps(dict(sorted(dropped.items())))}
        records = replace(records, attributes=dict(attributes) | left)
    return Dataset(records, table, folder, key)


def at_hand(folder: Path, wanted: GraphSettings | None = None) -> Dataset | None:
    """Return the data set that was last opened from this ``folder`` of the cache, or None if it is gone.

    None too if its graphs were built with other settings than ``wanted``, where those are given.
    """
    try:
        now = json.loads((folder / _CURRENT).read_text(encoding="utf-8"))
        parts, graph_settings = [(folder / a, folder / b) for a, b in now["parts"]], GraphSettings(**now["graph"])
        whole = all(a.is_file() and b.is_file() for a, b in parts) and wanted in (None, graph_settings)
        marks = [Mark(*mark) for mark in now.get("marks", ())]
        return _whole(parts, folder, graph_settings, now["attributes"], marks) if whole else None
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None


def counts(made: Sequence[tuple[Sequence[Task], Sequence[Shard]]]) -> dict[str, str]:
    """Return, as attributes, how many records were kept and left out, and the sha256 of the files."""
    pairs = [pair for tasks, shards in made for pair in zip(tasks, shards, strict=True)]
    dropped: Counter[str] = Counter()
    without: Counter[str] = Counter()
    doubted: Counter[str] = Counter()
    for _, shard in pairs:
        dropped.update(shard.dropped)
        without.update(shard.without)
        doubted.update(shard.doubted)
    found = {"kept": str(sum(s.kept for _, s in pairs)), "dropped": json.dumps(dict(sorted(dropped.items())))}
    found |= {"without": json.dumps(dict(sorted(without.items())))} if without else {}
    found |= {"doubted": json.dumps(dict(sorted(doubted.items())))} if doubted else {}
    sums = {task.source.name: shard.sha256 for task, shard in pairs if shard.sha256}
    return found | ({"sha256": json.dumps(sums)} if sums else {})


def tell(data: Dataset, name: str, made: Sequence[Prepared], seconds: float, say: Report) -> None:
    """Print how much of a data set was kept, what was left out and why, and how long it took."""
    dropped: dict[str, int] = json.loads(data.store.attributes["dropped"])
    say(f"Data set {name}: {len(data.store):,} records kept, {sum(dropped.values()):,} left out.")
    lines = prepare.told(shard for one in made for shard in one.shards)
    repeated = {reason: n for reason, n in dropped.items() if reason == _REPEATED}
    for line in [*lines, *(f"{n:,} left out: {reason}" for reason, n in repeated.items())]:
        say(f"  {line}")
    say(
        f"Prepared in {seconds:.1f} s: {len(data.store.numbers):,} sites as {len(data.graphs.number):,} nodes, "
        f"{len(data.graphs.neighbour):,} edges."
    )


def _key(root: Path, description: Mapping[str, Any], means: Means) -> str:
    """Hash everything that decides how files are read: path, adapter, YAML keys, checks, and the code that reads."""
    adapter = dict(description["adapter"])
    code = prepare.code_of(instantiate.locate(adapter["_target_"], means.plugins, "adapter").__module__)
    facts = [str(root.resolve()), adapter, code, store.SCHEMA, prepare.PART]
    facts += [means.checks or structure_checks.shipped()]
    facts += [description[key] for key in FURTHER if key in description]
    facts += [description.get("define"), {name: quantities.described(q) for name, q in quantities.shipped().items()}]
    return hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode()).hexdigest()[:12]


def _state(root: Path, source: Path, adapter: Mapping[str, Any]) -> str:
    """Hash the name, size and time of every file of a shard."""
    parent = f"{root.parent}{os.sep}".replace(os.sep * 2, os.sep)
    found = sorted(_files(source))
    if root == BUNDLED:
        found = [file for file in found if Path(file[0]).name == adapter["file"]]
    facts = [(path.removeprefix(parent), size, changed) for path, size, changed in found]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _files(source: Path) -> list[tuple[str, int, int]]:
    """Return path, size and time of every file below ``source``, or of ``source`` itself."""
    if not source.is_dir():
        facts = source.stat()
        return [(str(source), facts.st_size, facts.st_mtime_ns)]
    found, folders, seen = [], [str(source)], {os.path.realpath(source)}
    while folders:
        # An adapter cannot read a folder that cannot be listed.
        with suppress(PermissionError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_file():
                    facts = entry.stat()
                    found.append((entry.path, facts.st_size, facts.st_mtime_ns))
                elif entry.is_dir() and (place := os.path.realpath(entry.path)) not in seen:
                    seen.add(place)
                    folders.append(entry.path)
    return found
