"""Documents of the Materials Project's summary collection, in the shape that its API sends, of bundled crystals."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from tltool.data import store
from tltool.data.dataset import BUNDLED
from tltool.elements import symbol

VERSION = "2025.09.25"
META = {"emmet_version": "0.85.1", "database_version": VERSION, "batch_id": None, "build_date": "2025-09-25T00:00:00"}


def rows(n: int = 20) -> list[dict[str, Any]]:
    """Return ``n`` documents with the ids mp-1, mp-2, ... and sound moduli."""
    return [document(f"mp-{k + 1}", demo().crystal(40 * k), k) for k in range(n)]


@cache
def demo() -> store.Store:
    return store.load(BUNDLED / "demo.h5")


def document(name: str, crystal: Any, k: int) -> dict[str, Any]:
    lattice = {"matrix": crystal.lattice.tolist(), "pbc": [True, True, True]}
    sites = [
        {"species": [{"element": symbol(int(z)), "occu": 1}], "abc": abc.tolist(), "properties": {}, "label": "x"}
        for z, abc in zip(crystal.numbers, crystal.frac, strict=True)
    ]
    structure = {"@module": "pymatgen.core.structure", "@class": "Structure", "charge": 0.0, "lattice": lattice}
    return {
        "material_id": name,
        "structure": structure | {"sites": sites},
        "nsites": len(sites),
        "formation_energy_per_atom": -1.5 - k / 100,
        "energy_above_hull": k / 1000,
        "energy_per_atom": -5.25,
        "band_gap": 0.25 * k,
        "total_magnetization": 2.0,
        "bulk_modulus": {"voigt": 101.0 + k, "reuss": 99.0 + k, "vrh": 100.0 + k},
        "shear_modulus": {"voigt": 51.0, "reuss": 49.0, "vrh": 50.0},
        "universal_anisotropy": 0.5,
        "homogeneous_poisson": 0.3,
        "e_total": 12.0,
        "e_electronic": 4.0,
        "n": 2.0,
        "e_ij_max": 0.75,
        "theoretical": k % 2 == 0,
        "deprecated": False,
        "builder_meta": META | {"license": "BY-C"},
    }


def freeze(folder: Path, documents: list[dict[str, Any]], **note: Any) -> Path:
    """Write ``documents`` as the frozen form by hand, uncompressed, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in documents).encode()
    (folder / "summary.jsonl").write_bytes(lines)
    facts = {"db_version": VERSION, "count": len(documents), "sha256": hashlib.sha256(lines).hexdigest()} | note
    (folder / "query.json").write_text(json.dumps(facts))
    return folder
