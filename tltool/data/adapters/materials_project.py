"""Read a saved query of the Materials Project: documents of its summary collection, one JSON object per line.

Labels are fields of a SummaryDoc in the units of docs/quantities.md: energies, volume and magnetisation are per atom.
Tags are the licence of a document, and whether the crystal is known from experiment.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data.formats import label_columns
from tltool.data.formats.structure_files import from_dict
from tltool.data.materials_project import snapshot
from tltool.data.record import Dropped, Record
from tltool.errors import DataError

NOBLE_GASES = {2, 10, 18, 36, 54, 86}
ELASTIC = ("K_VRH", "G_VRH", "elastic_anisotropy", "poisson_ratio")
_LARGEST = 0.15  # eV/atom
_FIELDS = {
    "e_form": "formation_energy_per_atom",
    "e_above_hull": "energy_above_hull",
    "energy": "energy_per_atom",
    "gap": "band_gap",
    "elastic_anisotropy": "universal_anisotropy",
    "poisson_ratio": "homogeneous_poisson",
    "eps_total": "e_total",
    "eps_electronic": "e_electronic",
    "refractive_index": "n",
    "piezoelectric_modulus": "e_ij_max",
}
_MODULI = {"K_VRH": "bulk_modulus", "G_VRH": "shear_modulus"}
_GNOME = "gnome_r2scan_statics"


def read(
    root: Path, /, *, licences: list[str] | None, deprecated: bool | None, theoretical: bool | None, hygiene: bool
) -> Iterator[Record | Dropped]:
    """Yield a record per document in the folder ``root``; raise DataError if the folder is incomplete.

    ``licences`` lists the accepted licences (null: any or none). ``deprecated`` and ``theoretical`` accept only such
    documents (true), only the other ones (false), or both (null). With ``hygiene``, a document that breaks one of
    Matbench's rules for moduli (doi:10.1038/s41524-020-00406-3) loses its elastic labels; the tag ``without`` says why.
    """
    version = str(snapshot.asked(root).get("db_version", ""))
    for n, row in enumerate(snapshot.documents(root), start=1):
        name = str(row.get("material_id") or f"line {n}")
        licence = _inner(row, "builder_meta", "license")
        if licences is not None and licence not in licences:
            yield Dropped(name, f"licence {licence or 'not given'}")
        elif deprecated is not None and bool(row.get("deprecated")) is not deprecated:
            yield Dropped(name, "not deprecated" if deprecated else "deprecated")
        elif theoretical is not None and row.get("theoretical") is not theoretical:
            yield Dropped(name, "not theoretical" if theoretical else "theoretical, or not known to be experimental")
        elif not row.get("structure"):
            yield Dropped(name, "no structure")
        else:
            yield _record(row, name, hygiene, {"db_version": version} if version else {})


def _record(row: Mapping[str, Any], name: str, hygiene: bool, tags: dict[str, str]) -> Record | Dropped:
    try:
        crystal = from_dict(row["structure"], name)
    except DataError as error:
        return Dropped(name, "partly occupied sites" if "occupied" in str(error) else "unusable structure")
    n = len(crystal.numbers)
    found = {q: row.get(key) for q, key in _FIELDS.items()} | {q: _inner(row, k, "vrh") for q, k in _MODULI.items()}
    said = label_columns.labels(found | {"magnetisation": row.get("total_magnetization")})
    good = {q: label / n if q == "magnetisation" else label for q, label in said.good.items()}
    good["volume"] = float(abs(np.linalg.det(crystal.lattice))) / n
    tags = {"mat_id": name} | tags | _origin(row)
    if hygiene and any(q in good for q in ELASTIC) and (fault := _fault(row, crystal.numbers.tolist())):
        good = {q: label for q, label in good.items() if q not in ELASTIC}
        tags["without"] = f"elastic labels: {fault}"
    return label_columns.record(name, crystal, said._replace(good=good), tags)


def _inner(row: Mapping[str, Any], key: str, inner: str) -> Any:
    """Return field ``inner`` of the document's field ``key``; None if missing, a list if ``key`` has no fields."""
    found = row.get(key)
    return found.get(inner) if isinstance(found, Mapping) else found and [found]


def _origin(row: Mapping[str, Any]) -> dict[str, str]:
    licence, theoretical = _inner(row, "builder_meta", "license"), row.get("theoretical")
    tags = {"licence": str(licence)} if licence else {}
    if isinstance(theoretical, bool):
        tags["origin"] = "theoretical" if theoretical else "experimental"
    # Other documents do not name the functional: it may be PBE, PBE+U or r2SCAN.
    return tags | ({"functional": "r2SCAN"} if _inner(row, "builder_meta", "batch_id") == _GNOME else {})


def _fault(row: Mapping[str, Any], numbers: list[int]) -> str | None:
    """Return which of Matbench's rules for moduli the document breaks; None if it breaks none."""
    energies = [_number(row.get(key)) for key in ("formation_energy_per_atom", "energy_above_hull")]
    if any(energy is None for energy in energies):
        return "no formation energy or no energy above hull"
    if any(energy is not None and energy > _LARGEST for energy in energies):
        return "formation energy or energy above hull over 150 meV/atom"
    if NOBLE_GASES & set(numbers):
        return "noble gas"
    for key in _MODULI.values():
        averages = [_number(_inner(row, key, kind)) for kind in ("reuss", "vrh", "voigt")]
        reuss, vrh, voigt = averages
        if reuss is None or vrh is None or voigt is None:
            return "Voigt, Reuss or VRH average is missing"
        if min(reuss, vrh, voigt) < 0:
            return "negative modulus"
        if not reuss <= vrh <= voigt:
            return "Reuss <= VRH <= Voigt does not hold"
    return None


def _number(value: Any) -> float | None:
    """Return ``value`` if it is a finite number."""
    return label_columns.labels({"K_VRH": value}).good.get("K_VRH")
