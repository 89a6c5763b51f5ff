"""Read the dumps of Alexandria, which are bzip2-compressed JSON files of computed entries, one entry at a time.

A file is ``{"entries": [...]}`` or a list, and may contain NaN. ``energy_total``, ``total_mag`` and ``dos_ef`` are per
cell and are divided by the number of atoms; ``e_form`` and ``e_above_hull`` are per atom. Ids are ``data.mat_id``.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data.formats import decompress, json_stream, label_columns
from tltool.data.formats.structure_files import from_dict
from tltool.data.record import Dropped, Record
from tltool.errors import DataError

_PER_ATOM = {"e_form": "e_form", "e_above_hull": "e_above_hull", "gap": "band_gap_ind", "gap_direct": "band_gap_dir"}
_PER_CELL = {"energy": "energy_total", "magnetisation": "total_mag", "dos_ef": "dos_ef"}


def read(root: Path, /, *, pattern: str, min_elements: int) -> Iterator[Record | Dropped]:
    """Yield a record per entry of all files under ``root`` (or of the file ``root``) that match ``pattern``.

    Labels are in eV/atom (``e_form``, ``e_above_hull``, ``energy``), eV (gaps), μB/atom and states/eV/atom. Entries
    with fewer than ``min_elements`` different elements are dropped. Raise DataError if no file matches or a file is
    damaged.
    """
    files = [root] if root.is_file() else sorted(root.rglob(pattern))
    if not files:
        raise DataError(
            f"There is no file {pattern} in {root}; download the dumps to this folder or correct data.root."
        )
    for file in files:
        for n, entry in enumerate(_entries(file)):
            found = _record(entry, f"{file.name}:{n}")
            if isinstance(found, Record) and len(np.unique(found.crystal.numbers)) < min_elements:
                found = Dropped(found.id, f"fewer than {min_elements} elements")
            yield found


def _entries(file: Path) -> Iterator[Any]:
    """Yield the entries one at a time, so that memory does not grow with the file."""
    with decompress.opened(file) as packed, io.TextIOWrapper(packed, encoding="utf-8") as text:
        yield from (entry for key, _, entry in json_stream.members(text, file) if key in ("", "entries"))


def _record(entry: Any, where: str) -> Record | Dropped:
    data = entry.get("data") if isinstance(entry, dict) else None
    name = str(data.get("mat_id") or where) if isinstance(data, dict) else where
    if not isinstance(data, dict) or not entry.get("structure"):
        return Dropped(name, "no structure")
    try:
        crystal = from_dict(entry["structure"], name)
    except DataError as error:
        return Dropped(name, "partly occupied sites" if "occupied" in str(error) else "unusable structure")
    n = len(crystal.numbers)
    said = label_columns.labels({q: data.get(key) for q, key in (_PER_ATOM | _PER_CELL).items()})
    good = {q: label / n if q in _PER_CELL else label for q, label in said.good.items()}
    good["volume"] = float(abs(np.linalg.det(crystal.lattice))) / n
    return label_columns.record(name, crystal, said._replace(good=good), {"mat_id": name})
