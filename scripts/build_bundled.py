"""Write the stores that ship with tltool from matminer's tables: python scripts/build_bundled.py FOLDER [OUT].

FOLDER holds matminer_*.csv.xz. The tables are cleaned as Matbench cleans them, and what goes is counted by reason,
printed and kept in the store's attributes. The same input gives the same bytes.
"""

import csv
import hashlib
import json
import lzma
import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pymatgen.core.composition import Composition
from pymatgen.io.vasp.inputs import Poscar

from tltool.data import store
from tltool.data.formats import structure_files
from tltool.data.formats.cif import cif_file
from tltool.data.graph import neighbours
from tltool.data.record import Crystal, Dropped, Record, from_structure
from tltool.elements import symbol
from tltool.errors import DataError

Row = Mapping[str, str]
NOBLE_GASES = {2, 10, 18, 36, 54, 86}
LICENCE = "CC BY 4.0 (Materials Project)"
_SLACK = 1e-3


class Table(NamedTuple):
    """One of matminer's tables: the ``columns`` that hold a quantity, and what one row's crystal and cleaning are."""

    file: str
    functional: str
    columns: Mapping[str, str]
    crystal: Callable[[Row], Crystal]
    fault: Callable[[Row, Crystal], str | None]
    citation: str


def from_json(row: Row) -> Crystal:
    """Return the crystal of a table that holds Python-printed structure dicts."""
    return structure_files.from_dict(json.loads(row["structure"].replace("'", '"')), row["material_id"])


def from_poscar_and_cif(row: Row) -> Crystal:
    """Return the crystal of a table that holds it twice; raise DataError if the two differ."""
    name = row["material_id"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        crystal = from_structure(Poscar.from_str(row["poscar"]).structure, name)
    other = cif_file.crystals(row["structure"].encode(), name)[0]
    if isinstance(other, DataError):
        raise other
    same_sites = np.array_equal(np.sort(crystal.numbers), np.sort(other.numbers))
    if not same_sites or not np.allclose(distances(crystal), distances(other), atol=1e-3):
        raise DataError(f"{name}: POSCAR and CIF differ")
    return crystal


def adds_up(crystal: Crystal, text: str) -> bool:
    """Say whether the crystal has the stated formula, which is one or a Python-printed dict of amounts."""
    stated = Composition(json.loads(text.replace("'", '"')) if text.startswith("{") else text).get_el_amt_dict()
    found = Counter(symbol(number) for number in crystal.numbers.tolist())
    units = found.total() / sum(stated.values())
    return {name: round(amount * units, 6) for name, amount in stated.items()} == dict(found)


def distances(crystal: Crystal) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the distances in Å of the twelve nearest neighbours of every site, sorted."""
    return np.sort(neighbours.find(crystal, 20.0, 12, "strict").distance)


def no_fault(row: Row, crystal: Crystal) -> str | None:
    """Keep every row."""
    return None


def elastic_fault(row: Row, crystal: Crystal) -> str | None:
    """Say which of Matbench's rules for moduli the row breaks."""
    for modulus in "KG":
        reuss, vrh, voigt = (float(row[f"{modulus}_{kind}"]) for kind in ("Reuss", "VRH", "Voigt"))
        if min(reuss, vrh, voigt) < 0:
            return "negative modulus"
        if not reuss <= vrh + _SLACK * vrh <= voigt + 2 * _SLACK * vrh:
            return "Reuss <= VRH <= Voigt does not hold"
    return "noble gas" if NOBLE_GASES & set(crystal.numbers.tolist()) else None


TABLES = {
    "demo": Table(
        "matminer_flla_2015.csv.xz",
        "PBE(+U)",
        {"e_form": "formation_energy_per_atom", "e_above_hull": "e_above_hull"},
        from_json,
        no_fault,
        "@article{faber2015crystal, author={Faber, Felix and Lindmaa, Alexander and von Lilienfeld, O. Anatole and "
        "Armiento, Rickard}, title={Crystal structure representations for machine learning models of formation "
        "energies}, journal={International Journal of Quantum Chemistry}, volume={115}, pages={1094--1101}, "
        "year={2015}, doi={10.1002/qua.24917}}",
    ),
    "elastic": Table(
        "matminer_elastic_tensor.csv.xz",
        "PBE",
        {name: name for name in ("K_VRH", "G_VRH", "elastic_anisotropy", "poisson_ratio")},
        from_poscar_and_cif,
        elastic_fault,
        "@article{dejong2015charting, author={de Jong, Maarten and Chen, Wei and Angsten, Thomas and Jain, Anubhav "
        "and Notestine, Randy and Gamst, Anthony and Sluiter, Marcel and Ande, Chaitanya Krishna and van der Zwaag, "
        "Sybrand and Plata, Jose J. and Toher, Cormac and Curtarolo, Stefano and Ceder, Gerbrand and Persson, "
        "Kristin A. and Asta, Mark}, title={Charting the complete elastic properties of inorganic crystalline "
        "compounds}, journal={Scientific Data}, volume={2}, pages={150009}, year={2015}, doi={10.1038/sdata.2015.9}}",
    ),
    "dielectric": Table(
        "matminer_dielectric_constant.csv.xz",
        "PBE(+U)",
        {"refractive_index": "n", "eps_electronic": "poly_electronic", "eps_total": "poly_total", "gap": "band_gap"},
        from_poscar_and_cif,
        no_fault,
        "@article{petousis2017high, author={Petousis, Ioannis and Mrdjenovich, David and Ballouz, Eric and Liu, "
        "Miao and Winston, Donald and Chen, Wei and Graf, Tanja and Schladt, Thomas D. and Persson, Kristin A. and "
        "Prinz, Fritz B.}, title={High-throughput screening of inorganic compounds for the discovery of novel "
        "dielectric and optical materials}, journal={Scientific Data}, volume={4}, pages={160134}, year={2017}, "
        "doi={10.1038/sdata.2016.134}}",
    ),
    "piezoelectric": Table(
        "matminer_piezoelectric_tensor.csv.xz",
        "PBE",
        {"piezoelectric_modulus": "eij_max"},
        from_poscar_and_cif,
        no_fault,
        "@article{dejong2015piezoelectric, author={de Jong, Maarten and Chen, Wei and Geerlings, Henry and Asta, "
        "Mark and Persson, Kristin Aslaug}, title={A database to enable discovery and design of piezoelectric "
        "materials}, journal={Scientific Data}, volume={2}, pages={150053}, year={2015}, doi={10.1038/sdata.2015.53}}",
    ),
}


def rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a table; its first line is a remark, and some tables have an index that the header omits."""
    csv.field_size_limit(1 << 24)
    with lzma.open(path, "rt", encoding="utf-8", newline="") as file:
        next(file)
        lines = csv.reader(file)
        header = next(lines)
        for line in lines:
            yield dict(zip(header, line[len(line) == len(header) + 1 :], strict=True))


def read(path: Path, table: Table) -> Iterator[Record | Dropped]:
    """Yield a record, or why there is none, for each row."""
    seen: set[str] = set()
    for row in rows(path):
        name = row["material_id"]
        if name in seen:
            yield Dropped(name, "duplicate id")
            continue
        seen.add(name)
        try:
            crystal = table.crystal(row)
        except DataError as error:
            yield Dropped(name, str(error).split(": ", 1)[-1])
            continue
        except (ValueError, LookupError):  # what pymatgen and json raise on damaged text
            yield Dropped(name, "structure cannot be read")
            continue
        labels = {quantity: float(row[column] or "nan") for quantity, column in table.columns.items()}
        if len(crystal.numbers) != float(row["nsites"]):
            yield Dropped(name, "number of sites is not nsites")
        elif not adds_up(crystal, row["formula"]):
            yield Dropped(name, "sites do not add up to the formula")
        elif not all(map(math.isfinite, labels.values())):
            yield Dropped(name, "label is not a number")
        elif fault := table.fault(row, crystal):
            yield Dropped(name, fault)
        else:
            yield Record(name, crystal, labels)


def build(folder: Path, out: Path) -> dict[str, dict[str, int]]:
    """Write the four stores to ``out`` and return how many rows of each went, by reason."""
    lost: dict[str, dict[str, int]] = {}
    for name, table in TABLES.items():
        path = folder / table.file
        items = list(read(path, table))
        kept = [item for item in items if isinstance(item, Record)]
        lost[name] = dict(sorted(Counter(item.reason for item in items if isinstance(item, Dropped)).items()))
        facts = {
            "name": name,
            "adapter": "bundled",
            "functional": table.functional,
            "licence": LICENCE,
            "citation": table.citation,
            "address": f"matminer 0.4.0 source package, {table.file}",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "kept": str(len(kept)),
            "dropped": json.dumps(lost[name]),
        }
        store.save(out / f"{name}.h5", store.gather(kept, facts))
        size = (out / f"{name}.h5").stat().st_size
        print(f"{name}.h5: {len(kept):,} of {len(items):,} rows, {size:,} bytes; dropped {lost[name] or 'none'}")
    return lost


if __name__ == "__main__":
    bundled = Path(__file__).parents[1] / "tltool" / "data" / "bundled"
    build(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else bundled)
