"""Files in the layouts in which data sets are published, made of bundled crystals, and where published ones may lie.

Each layout is that of a published file; numbers are those of the bundled crystals unless a test gives others.
"""

import bz2
import gzip
import json
import lzma
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from support import ROOT

from tltool.data import store
from tltool.data.dataset import BUNDLED
from tltool.data.record import Crystal
from tltool.elements import symbol

PUBLISHED = ROOT.parent / "shared" / "data"
"""Published files, where a developer has them; tests that read them read written ones everywhere."""


@cache
def bundled(name: str = "demo") -> store.Store:
    """Return a bundled store."""
    return store.load(BUNDLED / f"{name}.h5")


@cache
def smallest(n: int) -> list[Crystal]:
    """Return the ``n`` bundled crystals of fewest sites."""
    records = bundled()
    return [records.crystal(int(row)) for row in np.argsort(np.diff(records.first_site), kind="stable")[:n]]


def structure(crystal: Crystal, **more: Any) -> dict[str, Any]:
    """Return ``crystal`` as pymatgen writes a structure to JSON."""
    names = [symbol(int(number)) for number in crystal.numbers]
    sites = [
        {"species": [{"element": name, "occu": 1}], "abc": abc.tolist(), "xyz": (abc @ crystal.lattice).tolist(),
         "label": name, "properties": {}}
        for name, abc in zip(names, crystal.frac, strict=True)
    ]  # fmt: skip
    lattice = {"matrix": crystal.lattice.tolist(), "volume": volume(crystal)}
    kind = {"@module": "pymatgen.core.structure", "@class": "Structure", "charge": None}
    return kind | {"lattice": lattice, "sites": sites} | more


def volume(crystal: Crystal) -> float:
    """Return the volume of the cell in Å3."""
    return float(abs(np.linalg.det(crystal.lattice)))


def alexandria(place: Path, n: int = 10) -> Path:
    """Write a dump of ``n`` entries as a bare list, with the keys and the noise of the genuine ones."""
    entries = []
    for row, crystal in enumerate(smallest(n)):
        size = len(crystal.numbers)
        data = {"mat_id": f"agm00200{row:04d}", "prototype_id": "A_1_spg225", "spg": 225, "nsites": size,
                "stress": [[1.648, 0, 0]] * 3, "energy_total": -4.5 * size, "total_mag": -8.94e-05, "band_gap_ind": 0.0,
                "band_gap_dir": 0.0056, "dos_ef": 2.5487456, "energy_corrected": -4.5 * size, "e_form": -0.1 * row,
                "e_above_hull": 0.0013688375, "e_phase_separation": 0.0013688375,
                "decomposition": " AcAg  AcAu "}  # fmt: skip
        entries.append({"@module": "pymatgen.entries.computed_entries", "@class": "ComputedStructureEntry",
                        "energy": -4.5 * size, "composition": {}, "entry_id": None, "correction": 8.4e-07,
                        "parameters": {}, "data": data, "structure": structure(crystal)})  # fmt: skip
    place.write_bytes(bz2.compress(json.dumps(entries).encode()))
    return place


def matbench(place: Path, column: str, rows: list[tuple[int, Crystal, Any]]) -> Path:
    """Write a task's file: official row number, crystal and value each."""
    whole = {
        "index": [number for number, _, _ in rows],
        "columns": ["structure", column],
        "data": [[structure(crystal), value] for _, crystal, value in rows],
    }
    place.write_bytes(gzip.compress(json.dumps(whole).encode(), compresslevel=1))
    return place


def json_lines(place: Path, rows: list[dict[str, Any]]) -> Path:
    """Write ``rows`` as JSON lines, packed as xz."""
    place.write_bytes(lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), preset=0))
    return place


def json_list(place: Path, rows: list[dict[str, Any]]) -> Path:
    """Write ``rows`` as a list of objects, packed as gzip."""
    place.write_bytes(gzip.compress(json.dumps(rows).encode(), compresslevel=1))
    return place
