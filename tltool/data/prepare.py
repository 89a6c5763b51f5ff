"""Turn a shard of a data set into stores and graphs on disk; ``parallel.py`` does so with many.

A shard is a file of a dump, or a whole folder that its adapter reads at once. It is written as parts of at most
``PART`` records, so that memory does not grow with the shard, and a note that is written last. So a shard is either
complete or missing, and after a kill the next run continues with the missing shards. Nothing heavy is imported here,
since every process imports this module.
"""

import hashlib
import inspect
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tltool import instantiate, interruption, quantities
from tltool.data import store, structure_checks
from tltool.data.formats import label_columns
from tltool.data.graph import crystal_graphs
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.record import Dropped, Record, reason
from tltool.data.structure_checks import Checks
from tltool.errors import FAULTS, DamagedError, DataError, ResourceError, said

Say = Callable[[str], None]

PART = 20_000
"""Number of records in one part; limits the memory of a process."""


@dataclass(frozen=True)
class Task:
    """A shard to prepare: source, adapter node, path of its files without suffix, and graph settings.

    ``checks`` are the checks of its crystals; None means those of configs/common.yaml.
    """

    source: Path
    place: Path
    adapter: Mapping[str, Any]
    plugins: tuple[str, ...]
    facts: Mapping[str, str]
    graph_settings: GraphSettings
    checks: Checks | None = None

    @property
    def note(self) -> Path:
        """The file that says that the shard is complete."""
        return self.place.with_name(f"{self.place.name}.json")

    def part(self, number: int) -> Path:
        """Return the path of the store of one part."""
        return self.place.with_name(f"{self.place.name}-{number:05d}.h5")

    def graphs(self, number: int) -> Path:
        """Return the path of the graphs of one part."""
        return self.place.with_name(f"{self.place.name}-{number:05d}-{self.graph_settings.key()}.graphs.h5")


class Shard(NamedTuple):
    """The result of a shard: records ``kept`` in so many ``parts``; reasons with counts and their first examples.

    ``without`` counts records that were kept without some of their labels, by the reason in their tag ``without``.
    ``doubted`` counts records that were kept although they failed a check, by the check.
    """

    kept: int
    parts: int
    dropped: dict[str, int]
    first: dict[str, str]
    without: dict[str, int]
    doubted: dict[str, int]
    sha256: str


def code_of(reader: str) -> str:
    """Return a hash of the module ``reader`` and of all modules of this package that it and this module import."""
    found: set[str] = set()
    todo = {reader, __name__}
    while todo:
        name = todo.pop()
        found.add(name)
        things = vars(sys.modules[name]).values()
        names = {thing.__name__ if inspect.ismodule(thing) else getattr(thing, "__module__", None) for thing in things}
        todo |= {str(n) for n in names if str(n).startswith("tltool.") and n in sys.modules} - found
    files = (sys.modules[name].__file__ for name in sorted(found))
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in files if file)).hexdigest()


def told(shards: Iterable[Shard]) -> list[str]:
    """Return sentences: how many records were left out, or kept without some labels, by reason, with an example."""
    dropped: Counter[str] = Counter()
    without: Counter[str] = Counter()
    doubted: Counter[str] = Counter()
    first: dict[str, str] = {}
    for shard in shards:
        dropped.update(shard.dropped)
        without.update(shard.without)
        doubted.update(shard.doubted)
        first = shard.first | first

    def example(reason: str) -> str:
        return f" (first: {first[reason]})" if reason in first else ""

    return [
        *(f"{n:,} left out: {reason}{example(reason)}" for reason, n in dropped.most_common()),
        *(f"{n:,} kept without {reason}{example(_without(reason))}" for reason, n in without.most_common()),
        *(f"{n:,} kept and marked: {fault}" for fault, n in doubted.most_common()),
    ]


def _without(reason: str) -> str:
    return f"without {reason}"


def done(task: Task) -> Shard | None:
    """Return the result of ``task`` if all its files exist."""
    try:
        shard = Shard(**json.loads(task.note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    whole = all(task.part(n).is_file() and task.graphs(n).is_file() for n in range(shard.parts))
    return shard if whole else None


def is_sound(task: Task) -> bool:
    """Say if all prepared files of ``task`` can be read."""
    shard = done(task)
    try:
        for number in range(shard.parts if shard else 0):
            store.load(task.part(number))
            crystal_graphs.from_arrays(store.read_arrays(task.graphs(number))[0])
    except DataError:
        return False
    return shard is not None


def prepare(task: Task) -> Shard:
    """Make the missing files of ``task``; raise the adapter's DataError, or ResourceError."""
    try:
        shard = Shard(**json.loads(task.note.read_text(encoding="utf-8")))
        if not all(task.part(n).is_file() for n in range(shard.parts)):
            raise ValueError
    except (OSError, ValueError, TypeError):
        shard = _read(task)
    for number in range(shard.parts):
        if not task.graphs(number).is_file():
            try:
                records = store.load(task.part(number))
            except DamagedError:
                task.note.unlink(missing_ok=True)
                return prepare(task)
            _build(task, number, records)
    return shard


def _read(task: Task) -> Shard:
    dropped: Counter[str] = Counter()
    without: Counter[str] = Counter()
    doubted: Counter[str] = Counter()
    first: dict[str, str] = {}
    kept = parts = 0
    sha256 = _sha256(task.source) if task.source.is_file() else ""
    facts = dict(task.facts) | ({"file": task.source.name, "sha256": sha256} if sha256 else {})
    items = instantiate.call(task.adapter, task.source, plugins=task.plugins, place="adapter")
    checked = _checked(_read_in_order(items, task), task.checks or structure_checks.shipped(), doubted)
    records = _unique(_within(checked, task), dropped, first)
    ahead = next(records, None)
    while ahead is not None:
        block = [ahead, *islice(records, PART - 1)]
        ahead = next(records, None)
        kept += len(block)
        if ahead is None:
            # The counts are known now: the last part, usually the only one, stores those of the whole shard.
            facts |= {"kept": str(kept), "dropped": json.dumps(dict(sorted(dropped.items())))}
        store.save(task.part(parts), store.gather(block, facts))
        for record in block:
            if why := record.tags.get("without"):
                without[why] += 1
                first.setdefault(_without(why), record.id)
        del block
        _build(task, parts, store.load(task.part(parts)))
        parts += 1
    shard = Shard(kept, parts, dict(sorted(dropped.items())), first, dict(without), dict(doubted), sha256)
    task.note.parent.mkdir(parents=True, exist_ok=True)
    write(task.note, json.dumps(shard._asdict(), indent=1))
    return shard


def _read_in_order(items: Iterable[Record | Dropped], task: Task) -> Iterator[Record | Dropped]:
    """Yield ``items``; raise DataError, which names the record before, if the adapter fails at one."""
    last = "the beginning"
    try:
        for item in items:
            yield item
            last = f"the record {item.id!r}"
    except FAULTS as error:
        raise DataError(
            f"{task.source}: what follows {last} cannot be read ({said(error)}); correct or remove it."
        ) from error


def _checked(items: Iterable[Record | Dropped], checks: Checks, doubted: Counter[str]) -> Iterator[Record | Dropped]:
    """Yield ``items`` without those that fail a check, or with those marked and counted, as ``checks`` says.

    The tag ``checks`` names the checks that a record failed; the tag ``reader`` names the parser if it is not the usual
    one.
    """
    for item in items:
        interruption.check()
        if isinstance(item, Dropped):
            yield item
            continue
        try:
            crystal = structure_checks.accepted(item.crystal, "crystal", checks)
        except DataError as error:
            detail = re.search(r"\(([^()]*)\)", str(error))
            yield Dropped(item.id, reason(error), detail[1] if detail else "")
            continue
        tags = {"checks": "; ".join(crystal.faults), "reader": crystal.reader}
        doubted.update(fault.split(" (")[0] for fault in crystal.faults)
        marks = {name: text for name, text in tags.items() if text}
        yield item._replace(crystal=crystal, tags={**item.tags, **marks}) if marks else item


def _within(items: Iterable[Record | Dropped], task: Task) -> Iterator[Record | Dropped]:
    """Yield ``items`` without the labels that are beyond the limits of their quantity."""
    known = quantities.from_text(task.facts.get("define", ""))
    return (label_columns.within(item, known) for item in items)


def _unique(items: Iterable[Record | Dropped], dropped: Counter[str], first: dict[str, str]) -> Iterator[Record]:
    """Yield the records; count records that the adapter leaves out, and records with an id that occurred before."""
    seen: set[str] = set()
    for item in items:
        if isinstance(item, Record) and item.id in seen:
            item = Dropped(item.id, "the id occurred before")
        if isinstance(item, Dropped):
            dropped[item.reason] += 1
            first.setdefault(item.reason, f"{item.id}, {item.detail}" if item.detail else item.id)
        else:
            seen.add(item.id)
            yield item


def _build(task: Task, number: int, records: store.Store) -> None:
    try:
        table = crystal_graphs.build((records.crystal(row) for row in range(len(records))), task.graph_settings)
    except FAULTS:
        _name_bad(task, records)
        raise
    about = {"graph": json.dumps(vars(task.graph_settings))}
    store.write_arrays(task.graphs(number), table.arrays(), about, {"distance": "Å"})


def _name_bad(task: Task, records: store.Store) -> None:
    """Raise DataError, which names the record, for the first one without a graph."""
    for row, name in enumerate(records.ids):
        try:
            crystal_graphs.build([records.crystal(row)], task.graph_settings)
        except FAULTS as error:
            raise DataError(
                f"{task.source}, id {name!r}: its graph cannot be built ({said(error)}); correct or remove it."
            ) from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from error


def write(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` completely or not at all; raise ResourceError if that is not possible."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ResourceError(f"Cannot write {path} ({error.strerror}); free space or name another folder.") from error
