"""Many parts as one data set: memory-mapped flat arrays in a folder, so that a data set of any size opens at once.

The stores of the parts, with their checksums, are the originals; this folder is made from them and can be deleted. An
array is a raw file; words are a file of bytes and a file of offsets. ``memory_mapped.json`` lists them and is written
last.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tltool.data import store
from tltool.data.graph import crystal_graphs
from tltool.data.graph.crystal_graphs import GraphTable
from tltool.data.origin import Mark, mark_id, marked
from tltool.data.store import Store
from tltool.errors import DamagedError, DataError, ResourceError

Array = npt.NDArray[Any]
_CONTENT = "joined.json"
_STARTS = "first_"


class Words(Sequence[str]):
    """Words stored as ``text`` (bytes) and ``first`` (n+1,), read one by one."""

    def __init__(self, text: Array, first: Array) -> None:
        self._text, self._first = text, first

    def __len__(self) -> int:
        return len(self._first) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return the word at ``place``, or those of a slice."""
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        place %= len(self)
        return bytes(self._text[self._first[place] : self._first[place + 1]]).decode()

    def __iter__(self) -> Iterator[str]:
        step = 65_536
        for begin in range(0, len(self), step):
            first = np.asarray(self._first[begin : begin + step + 1])
            text = bytes(self._text[first[0] : first[-1]])
            ends = (first - first[0]).tolist()
            yield from (text[a:b].decode() for a, b in pairwise(ends))


def join(parts: Sequence[tuple[Path, Path]], folder: Path, marks: Sequence[Mark] = ()) -> int:
    """Write the stores and graphs of ``parts`` into ``folder`` as one; return how many repeated ids were left out.

    A record whose id occurs in an earlier part is left out. ``marks`` gives, for each part, the data set to which it
    belongs; it is empty for the parts of one data set. Raise ResourceError if the disk is full.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    of_part: Sequence[Mark | None] = marks or [None] * len(parts)
    keep = _first_of_each(parts, of_part)
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        with _Writer(temporary) as writer:
            begin = 0
            for (place, graph_place), mark in zip(parts, of_part, strict=True):
                records = store.load(place) if mark is None else marked(store.load(place), mark)
                table = crystal_graphs.from_arrays(store.read_arrays(graph_place)[0])
                rows = np.flatnonzero(keep[begin : begin + len(records)])
                begin += len(records)
                if len(rows) < len(records):
                    records, table = store.taken(records, rows), crystal_graphs.taken(table, rows)
                _append(writer, records, table)
            repeated = int((~keep).sum())
            writer.finish({"repeated": repeated})
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ResourceError(
            f"Cannot write {folder} ({error.strerror or error}); free space or name another cache=."
        ) from error
    return repeated


def opened(folder: Path, attributes: Mapping[str, str]) -> tuple[Store, GraphTable, int]:
    """Return the memory-mapped store and graphs of a joined ``folder``, and how many repeated ids it leaves out."""
    try:
        content = json.loads((folder / _CONTENT).read_text(encoding="utf-8"))
        found = {name: _mapped(folder / file, kind, shape) for name, (file, kind, shape) in content["arrays"].items()}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"{folder} is damaged ({error}); delete it and run again.") from error

    def words(name: str) -> Words:
        return Words(found[f"{name}.text"], found[f"{name}.first"])

    names = list(found)
    records = Store(
        words("id"),
        found["first_site"],
        found["numbers"],
        found["frac"],
        found["lattice"],
        {name.removeprefix("label/"): found[name] for name in names if name.startswith("label/")},
        {n[4:].removesuffix(".first"): words(n.removesuffix(".first")) for n in names if _is_tag(n)},
        dict(attributes),
        found.get("amounts"),
    )
    table = crystal_graphs.from_arrays({name[6:]: found[name] for name in names if name.startswith("graph/")})
    return records, table, int(content["repeated"])


def is_whole(folder: Path) -> bool:
    """Return whether ``folder`` is complete."""
    return (folder / _CONTENT).is_file()


def _is_tag(name: str) -> bool:
    return name.startswith("tag/") and name.endswith(".first")


def _first_of_each(parts: Sequence[tuple[Path, Path]], marks: Sequence[Mark | None]) -> npt.NDArray[np.bool_]:
    """Return for each record of all parts whether no earlier record has its id."""
    ids = (store.read_arrays(place, only=("id",))[0]["id"] for place, _ in parts)
    named = (
        own if mark is None else [mark_id(mark, name) for name in own] for own, mark in zip(ids, marks, strict=True)
    )
    every = np.concatenate([_hashed(names) for names in named])
    keep = np.zeros(len(every), dtype=bool)
    keep[np.unique(every, return_index=True)[1]] = True
    return keep


def _hashed(words: Iterable[str]) -> Array:
    digests = b"".join(hashlib.blake2b(str(word).encode(), digest_size=8).digest() for word in words)
    return np.frombuffer(digests, dtype=np.uint64)


def _append(writer: "_Writer", records: Store, table: GraphTable) -> None:
    n, before = len(records), writer.rows
    writer.words("id", records.ids, 0)
    writer.starts("first_site", records.first_site)
    writer.add("numbers", records.numbers.astype(np.uint8))
    writer.add("frac", records.frac.astype(np.float32))
    writer.add("lattice", records.lattice.astype(np.float32))
    if records.amounts is not None:
        writer.add("amounts", records.amounts)
    for name in {*records.labels, *writer.named("label/")}:
        writer.pad(f"label/{name}", np.full(before, np.nan, dtype=np.float32))
        values = records.labels.get(name)
        writer.add(f"label/{name}", (np.full(n, np.nan) if values is None else values).astype(np.float32))
    for name in {*records.tags, *(w.removesuffix(".text") for w in writer.named("tag/") if w.endswith(".text"))}:
        writer.words(f"tag/{name}", records.tags.get(name, [""] * n), before)
    for name, values in table.arrays().items():
        (writer.starts if _STARTS in name else writer.add)(f"graph/{name}", values)
    writer.rows += n


class _Writer:
    """Files of arrays to which values are appended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}
        self._kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._lengths: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self.rows = 0

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *about: object) -> None:
        for file in self._files.values():
            file.close()

    def named(self, prefix: str) -> list[str]:
        """Return the names that begin with ``prefix``, without the prefix."""
        return [name.removeprefix(prefix) for name in self._files if name.startswith(prefix)]

    def add(self, name: str, values: Array) -> None:
        """Append ``values`` to the array ``name``."""
        if name not in self._files:
            self._files[name] = (self._folder / f"{len(self._files):03d}.bin").open("wb")
            self._kinds[name], self._lengths[name] = (values.dtype.str, values.shape[1:]), 0
        if values.dtype.str != self._kinds[name][0]:
            raise DataError(
                f"Some files of {self._folder.parent} contain crystals, others formulas; make two data sets."
            )
        self._files[name].write(np.ascontiguousarray(values).data)
        self._lengths[name] += len(values)

    def pad(self, name: str, values: Array) -> None:
        """Begin the array ``name`` with ``values`` if it has not begun."""
        if name not in self._files:
            self.add(name, values)

    def starts(self, name: str, first: Array) -> None:
        """Append the start positions of a ragged array; they continue from those that exist."""
        self.pad(name, np.zeros(1, dtype=np.int64))
        self.add(name, first[1:].astype(np.int64) + self._ends.get(name, 0))
        self._ends[name] = self._ends.get(name, 0) + int(first[-1])

    def words(self, name: str, words: Sequence[str], before: int) -> None:
        """Append ``words``, after ``before`` empty ones if there were none yet."""
        coded = [word.encode() for word in words]
        if f"{name}.first" not in self._files:
            coded = [*repeat(b"", before), *coded]
        self.starts(f"{name}.first", np.concatenate([[0], np.cumsum([len(word) for word in coded], dtype=np.int64)]))
        self.add(f"{name}.text", np.frombuffer(b"".join(coded), dtype=np.uint8))

    def finish(self, more: Mapping[str, Any]) -> None:
        """Write the list of files, after all of them are on the disk."""
        arrays = {}
        for name, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            kind, inner = self._kinds[name]
            arrays[name] = (Path(file.name).name, kind, (self._lengths[name], *inner))
        (self._folder / _CONTENT).write_text(json.dumps({"arrays": arrays, **more}), encoding="utf-8")


def _mapped(path: Path, kind: str, shape: Sequence[int]) -> Array:
    shape = tuple(shape)
    if 0 in shape:
        return np.empty(shape, dtype=kind)
    if path.stat().st_size != int(np.prod(shape)) * np.dtype(kind).itemsize:
        raise ValueError(f"{path.name} has changed its size since it was written")
    # Copy-on-write: torch accepts no read-only array. Nothing is written.
    return np.asarray(np.memmap(path, dtype=kind, mode="c", shape=shape))
