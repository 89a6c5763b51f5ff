"""A data set ready to be cut into batches: read by its adapter, graphs built, both kept in the cache folder."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tltool import plugs
from tltool.data import graphs, listing, loading, store
from tltool.data.graphs import GraphTable, Recipe
from tltool.data.record import Dropped, Record
from tltool.data.splits import Split
from tltool.data.store import Store
from tltool.data.web import Limits
from tltool.errors import ConfigError, DataError, ResourceError, nearest
from tltool.fields import Graph

BUNDLED = Path(__file__).parent / "bundled"
PROVENANCE = ("name", "address", "licence", "citation", "functional")
KEYS = (*PROVENANCE, "root", "quantities", "pattern", "sha256", "adapter")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Dataset:
    """The records of a data set and the graphs made from them, row by row."""

    store: Store
    graphs: GraphTable


@dataclass(frozen=True)
class Batches:
    """What a fit needs: ``table`` of graphs, ``labels`` (n, q) with NaN where absent, the quantities and the split."""

    table: loading.Table
    labels: Tensor
    quantities: tuple[str, ...]
    split: Mapping[str, Tensor]

    def __iter__(self) -> Iterator[str]:
        return iter(self.split)

    def of(self, part: str, size: int, generator: torch.Generator | None = None) -> Iterator[loading.Batch]:
        """Cut the rows of ``part`` into batches, shuffled if there is a ``generator``."""
        return loading.batches(self.table, self.labels, self.split[part], size, generator)

    def graph(self, part: str) -> Graph:
        """Return all crystals of ``part`` as one batch."""
        return self.table.select(self.split[part])

    def elements(self, part: str) -> set[int]:
        """Return the atomic numbers that occur in ``part``."""
        return set(torch.unique(self.graph(part).number).tolist())

    def to(self, device: torch.device | str) -> "Batches":
        """Return the same with every tensor on ``device``."""
        rows = {name: part.to(device) for name, part in self.split.items()}
        return replace(self, table=self.table.to(device), labels=self.labels.to(device), split=rows)


def batches(data: Dataset, quantities: Iterable[str], split: Split) -> Batches:
    """Return the batches of ``data`` with the labels of ``quantities``."""
    names = tuple(quantities)
    labels = torch.stack([torch.from_numpy(data.store.label(name)) for name in names], dim=1)
    parts = {name: torch.from_numpy(rows) for name, rows in split.items()}
    return Batches(loading.table(data.graphs), labels.to(torch.get_default_dtype()), names, parts)


def opened(
    description: Mapping[str, Any], recipe: Recipe, /, *, cache: Path, plugins: Iterable[str], say: Report
) -> Dataset:
    """Return the data set of a YAML ``description``, from the cache where its input has not changed since.

    Records that the adapter drops are counted by reason in the store's attributes, and said. Raises DataError if the
    files are not there or nothing is left of them, ConfigError for a key that a data YAML does not have.
    """
    for key in description:
        if key not in KEYS:
            raise ConfigError(f"data has no key {key!r}.{nearest(key, KEYS)}")
    root = _root(description, cache, say)
    key = _key(root, description)
    path = cache / f"{description['name']}-{key}.h5"
    graph_path = cache / f"{description['name']}-{key}-{recipe.key()}.graphs.h5"
    with _locked(cache / f"{description['name']}-{key}.lock", say):
        records = store.load(path) if path.exists() else _read(root, description, path, plugins, say)
        if graph_path.exists():
            return Dataset(records, graphs.from_arrays(store.read_arrays(graph_path)[0]))
        began = time.perf_counter()
        table = graphs.build((records.crystal(row) for row in range(len(records))), recipe)
        store.write_arrays(graph_path, table.arrays(), {"graph": json.dumps(vars(recipe))}, {"distance": "Å"})
    say(
        f"Graphs of {len(records):,} crystals in {time.perf_counter() - began:.1f} s: {len(records.numbers):,} sites "
        f"as {len(table.number):,} nodes, {len(table.neighbour):,} edges."
    )
    return Dataset(records, table)


def _root(description: Mapping[str, Any], cache: Path, say: Report) -> Path:
    """Return where the files are; without a root they are downloaded, or found as downloaded before."""
    if description["root"] == "bundled":
        return BUNDLED
    if description["root"] is None:
        address, pattern = description.get("address"), description.get("pattern")
        if not address or not pattern:
            raise DataError(f"data={description['name']} has no address to download from; pass data.root=FOLDER.")
        # Keyed by address, so that two snapshots whose files have the same names are never mixed.
        folder = f"{description['name']}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
        target = cache / "downloads" / folder
        known = description.get("sha256") or {}
        watch = listing.spoken(say)
        listing.folder(address, pattern, target, sha256=known, limits=Limits(), say=say, progress=watch)
        return target
    root = Path(description["root"]).expanduser()
    if not root.exists():
        raise DataError(f"data.root={root} does not exist; name the folder or file that holds the data set.")
    return root


def _read(root: Path, description: Mapping[str, Any], path: Path, plugins: Iterable[str], say: Report) -> Store:
    dropped: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def kept() -> Iterator[Record]:
        for item in plugs.call(description["adapter"], root, plugins=plugins):
            if isinstance(item, Dropped):
                dropped[item.reason] += 1
                examples.setdefault(item.reason, item.id)
            else:
                yield item

    facts = {k: str(v) for k, v in description.items() if k in PROVENANCE and v is not None}
    records = store.gather(kept(), facts | {"adapter": str(description["adapter"]["_target_"])})
    counts = {"kept": str(len(records)), "dropped": json.dumps(dict(sorted(dropped.items())))}
    records = replace(records, attributes=dict(records.attributes) | counts)
    store.save(path, records)
    say(f"Data set {description['name']}: {len(records):,} records kept, {sum(dropped.values()):,} left out.")
    for reason, count in dropped.most_common():
        say(f"  {count:,} left out: {reason} (first: {examples[reason]})")
    return records


def _key(root: Path, description: Mapping[str, Any]) -> str:
    """Hash what the data set is made of: its YAML and the name, size and time of every input file."""
    pattern = description.get("pattern") or "*"
    files = sorted(p for p in root.rglob(pattern) if p.is_file()) if root.is_dir() else [root]
    if root == BUNDLED:
        files = [p for p in files if p.name == description["adapter"]["file"]]
    facts = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    adapter = description["adapter"]
    text = json.dumps([str(root.resolve()), dict(adapter), facts, store.SCHEMA], default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@contextmanager
def _locked(path: Path, say: Report) -> Iterator[None]:
    """Let one process at a time make a cache file; the lock goes with the process that holds it."""
    import fcntl

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    except OSError as error:
        raise ResourceError(f"Cannot write to cache={path.parent} ({error.strerror}); name another folder.") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Another process prepares {path.stem}; waiting for it.")
            fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write(str(os.getpid()))
        yield
