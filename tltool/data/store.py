"""The store: one HDF5 file of flat ragged arrays; the only module that imports h5py.

A file is written under a temporary name with a checksum on every chunk, marked complete last, and renamed. So a reader
finds a complete file or none. Sizes: n crystals, s sites in total.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tltool.data.record import Crystal, Floats, Ints, Record
from tltool.errors import DamagedError, DataError, ResourceError
from tltool.quantities import Quantities, from_text

SCHEMA = 1
_MARGIN = 4_000_000  # bytes
_PACKED = 1100  # bytes of an array for each byte of its file, at most; gzip packs 1032
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Store:
    """Records as flat arrays.

    ``ids`` n; ``first_site`` (n+1,); ``numbers`` (s,); ``frac`` (s, 3); ``lattice`` (n, 3, 3) in Å; ``labels`` one (n,)
    array per quantity in its unit, NaN for a missing label; ``tags`` one list per name; ``attributes`` say where the
    data come from (adapter, address, sha256, licence, citation, counts). ``amounts`` (s,) of a store of formulas, whose
    sites are elements; None for crystals. Arrays may have narrow types and be memory-mapped: ``crystal`` and ``label``
    return float64 and int64.
    """

    ids: Sequence[str]
    first_site: Ints
    numbers: Array
    frac: Array
    lattice: Array
    labels: Mapping[str, Array]
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    amounts: Array | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def known(self) -> Quantities:
        """The quantities that ship, and those that the data set defines in its attribute ``define``."""
        return from_text(self.attributes.get("define", ""))

    def crystal(self, row: int) -> Crystal:
        """Return the crystal in ``row``."""
        sites = slice(int(self.first_site[row]), int(self.first_site[row + 1]))
        lattice, frac = self.lattice[row].astype(np.float64), self.frac[sites].astype(np.float64)
        amounts = None if self.amounts is None else self.amounts[sites].astype(np.float64)
        return Crystal(lattice, frac, self.numbers[sites].astype(np.int64), amounts)

    def record(self, row: int) -> Record:
        """Return the record in ``row``, with the labels that it has."""
        labels = {name: float(v[row]) for name, v in self.labels.items() if np.isfinite(v[row])}
        return Record(self.ids[row], self.crystal(row), labels, {k: v[row] for k, v in self.tags.items()})

    def label(self, name: str) -> Floats:
        """Return the labels (n,) of quantity ``name`` in its unit; compute log10 if only the plain quantity is stored.

        Raise DataError if the store has no such label, ConfigError if there is no such quantity.
        """
        if name in self.labels:
            return self.labels[name].astype(np.float64)
        wanted = self.known.get(name) or self.known.named(name)
        if wanted.log10_of and wanted.log10_of in self.labels:
            plain = self.labels[wanted.log10_of].astype(np.float64)
            return np.log10(plain, where=plain > 0, out=np.full(len(plain), np.nan))
        raise DataError(
            f"The data set {self.attributes.get('name', '')!r} has no label {name!r}; it has "
            f"{', '.join(sorted(self.labels)) or 'none'}."
        )


def gather(records: Iterable[Record], attributes: Mapping[str, str]) -> Store:
    """Collect ``records`` into a store in memory.

    Raise DataError for a repeated id, for no records, and for a mixture of crystals and formulas.
    """
    ids: list[str] = []
    crystals: list[Crystal] = []
    labels: dict[str, list[tuple[int, float]]] = {}
    tags: dict[str, list[tuple[int, str]]] = {}
    known = from_text(attributes.get("define", ""))
    seen: set[str] = set()
    for row, record in enumerate(records):
        if record.id in seen:
            raise DataError(f"The id {record.id!r} occurs twice; ids must be unique, rename or remove one.")
        seen.add(record.id)
        ids.append(record.id)
        crystals.append(record.crystal)
        for name, value in record.labels.items():
            labels.setdefault(known.named(name).name, []).append((row, value))
        for name, word in record.tags.items():
            tags.setdefault(name, []).append((row, word))
    if not ids:
        raise DataError(f"The data set {attributes.get('name', '')!r} has no usable record; check its files.")
    amounts = [c.amounts for c in crystals if c.amounts is not None]
    if 0 < len(amounts) < len(ids):
        raise DataError(
            f"The data set {attributes.get('name', '')!r} contains crystals and formulas without a structure; "
            "make two data sets of it."
        )
    columns = {name: np.full(len(ids), np.nan) for name in labels}
    for name, pairs in labels.items():
        rows, values = zip(*pairs, strict=True)
        columns[name][list(rows)] = values
    words = {name: [""] * len(ids) for name in tags}
    for name, found in tags.items():
        for row, word in found:
            words[name][row] = word
    return Store(
        ids,
        np.concatenate([[0], np.cumsum([len(c.numbers) for c in crystals])]).astype(np.int64),
        np.concatenate([c.numbers for c in crystals]),
        np.concatenate([c.frac for c in crystals]),
        np.stack([c.lattice for c in crystals]),
        columns,
        words,
        dict(attributes),
        np.concatenate(amounts) if amounts else None,
    )


def taken(store: Store, rows: Ints) -> Store:
    """Return the records in ``rows`` as a new store."""
    sizes = np.diff(store.first_site)[rows]
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    sites = np.repeat(store.first_site[:-1][rows] - first[:-1], sizes) + np.arange(first[-1])
    return replace(
        store,
        ids=[store.ids[row] for row in rows],
        first_site=first,
        numbers=store.numbers[sites],
        frac=store.frac[sites],
        lattice=store.lattice[rows],
        labels={name: values[rows] for name, values in store.labels.items()},
        tags={name: [words[row] for row in rows] for name, words in store.tags.items()},
        amounts=None if store.amounts is None else store.amounts[sites],
    )


def save(path: Path, store: Store) -> None:
    """Write ``store`` to ``path`` in float32, as published inputs have no more digits than that.

    Amounts of a formula are float64, because the formula is computed from them again.
    """
    arrays: dict[str, Array] = {
        "id": np.array(store.ids, dtype=object),
        "first_site": store.first_site,
        "numbers": store.numbers.astype(np.uint8),
        "frac": store.frac.astype(np.float32),
        "lattice": store.lattice.astype(np.float32),
    }
    arrays |= {} if store.amounts is None else {"amounts": store.amounts.astype(np.float64)}
    arrays |= {f"label/{name}": values.astype(np.float32) for name, values in sorted(store.labels.items())}
    arrays |= {f"tag/{name}": np.array(words, dtype=object) for name, words in sorted(store.tags.items())}
    units = {f"label/{name}": store.known[name].unit for name in store.labels}
    write_arrays(path, arrays, store.attributes, units | {"lattice": "Å"})


def load(path: Path) -> Store:
    """Read the store at ``path``; raise DataError if it is missing, incomplete, damaged or of another schema."""
    arrays, attributes = read_arrays(path)
    try:
        found = _of_arrays(arrays, attributes)
        _check(found)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise DamagedError(
            f"The store {path} is damaged: it holds no records ({error}); delete it and prepare it again."
        ) from error
    return found


def _of_arrays(arrays: Mapping[str, Array], attributes: Mapping[str, str]) -> Store:
    return Store(
        [str(name) for name in arrays["id"]],
        arrays["first_site"].astype(np.int64),
        arrays["numbers"].astype(np.int64),
        arrays["frac"].astype(np.float64),
        arrays["lattice"].astype(np.float64),
        {k.removeprefix("label/"): v.astype(np.float64) for k, v in arrays.items() if k.startswith("label/")},
        {k.removeprefix("tag/"): [str(w) for w in v] for k, v in arrays.items() if k.startswith("tag/")},
        dict(attributes),
        arrays.get("amounts"),
    )


def _check(records: Store) -> None:
    """Raise ValueError if the arrays do not fit each other."""
    n, first = len(records.ids), records.first_site
    if first.shape != (n + 1,) or first[0] != 0 or (np.diff(first) < 0).any():
        raise ValueError("first_site does not divide the sites among the records")
    sites = int(first[-1])
    if records.numbers.shape != (sites,) or records.frac.shape != (sites, 3) or records.lattice.shape != (n, 3, 3):
        raise ValueError("the arrays of sites and cells have other lengths than the ids")
    if any(len(column) != n for column in (*records.labels.values(), *records.tags.values())):
        raise ValueError("a column has another length than the ids")


def write_arrays(
    path: Path, arrays: Mapping[str, Array], attributes: Mapping[str, str], units: Mapping[str, str]
) -> None:
    """Write named flat arrays with their units to one file, completely or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free > _room(arrays):
            with h5py.File(temporary, "w", track_order=True) as file:
                _fill(file, arrays, attributes, units)
        else:
            temporary.write_bytes(_image(arrays, attributes, units))
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise ResourceError(f"Cannot write {path} ({reason}); free space or name another folder.") from error
        raise


def _room(arrays: Mapping[str, Array]) -> int:
    """Return more bytes than the file of ``arrays`` can need."""
    words = [np.array(values, dtype=str).nbytes for values in arrays.values() if values.dtype == object]
    return 2 * (sum(values.nbytes for values in arrays.values()) + sum(words)) + _MARGIN


def _image(arrays: Mapping[str, Array], attributes: Mapping[str, str], units: Mapping[str, str]) -> bytes:
    """Return the bytes of the file: where the disk may be too small, HDF5 writes nothing, as that ends the process."""
    with h5py.File("image", "w", driver="core", backing_store=False, track_order=True) as file:
        _fill(file, arrays, attributes, units)
        file.flush()
        return bytes(file.id.get_file_image())


def _fill(
    file: h5py.File, arrays: Mapping[str, Array], attributes: Mapping[str, str], units: Mapping[str, str]
) -> None:
    for name, values in arrays.items():
        kind: Any = values.dtype
        if values.dtype == object:
            # Words of fixed length: HDF5 does not compress or checksum words of variable length.
            words = [str(word).encode() for word in values]
            kind = h5py.string_dtype("utf-8", max(map(len, words), default=0) or 1)
            values = np.array(words, dtype=kind)
        packed = {"compression": "gzip", "shuffle": True, "fletcher32": True} if values.size else {}
        node = file.create_dataset(name, data=values, dtype=kind, track_times=False, **packed)
        if name in units:
            node.attrs["unit"] = units[name]
    for name, text in sorted(attributes.items()):
        file.attrs[name] = text
    file.attrs["schema"] = SCHEMA
    file.attrs["complete"] = True


def read_arrays(path: Path, only: Sequence[str] = ()) -> tuple[dict[str, Array], dict[str, str]]:
    """Read all arrays (or ``only`` some) and attributes of a file from ``write_arrays``.

    Raise DataError as ``load`` does.
    """
    if not path.is_file():
        raise DataError(f"There is no store at {path}; make it with 'tltool prepare'.")
    try:
        with h5py.File(path, "r") as file:
            if not file.attrs.get("complete", False):
                raise DamagedError(f"The store {path} is incomplete; delete it and prepare it again.")
            if file.attrs["schema"] != SCHEMA:
                raise DataError(
                    f"The store {path} has schema {file.attrs['schema']}, not {SCHEMA}; delete it and prepare it again."
                )
            found: dict[str, Array] = {}
            most = _PACKED * path.stat().st_size

            def keep(name: str, node: h5py.Group | h5py.Dataset) -> None:
                if isinstance(node, h5py.Dataset) and (not only or name in only):
                    if node.dtype.hasobject or node.size * node.dtype.itemsize > most:
                        raise ValueError(f"{name} has an impossible size or type")
                    found[name] = node.asstr()[...] if h5py.check_string_dtype(node.dtype) else node[...]

            file.visititems(keep)
            return found, {k: str(v) for k, v in file.attrs.items() if k not in ("schema", "complete")}
    except DataError:
        raise
    except Exception as error:  # HDF5 reports damage in any way there is
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise DamagedError(f"The store {path} is damaged ({why}); delete it and prepare it again.") from error
