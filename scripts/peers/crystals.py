"""Crystals as files that every peer reads: a CIF each, and ``id_prop.csv`` with id and label (eV/atom), no heading."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

    from tltool.data.record import Crystal

TABLE = "id_prop.csv"


def write(folder: Path, crystals: "Iterable[tuple[str, Crystal, float]]") -> None:
    """Write ``crystals``, each with id and label, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        for name, crystal, label in crystals:
            rows.writerow([name, label])
            (folder / f"{name}.cif").write_text(as_cif(name, crystal), encoding="utf-8")


def as_cif(name: str, crystal: "Crystal") -> str:
    """Return ``crystal`` as a CIF in which every site is spelled out (P 1)."""
    from tltool.elements import symbol

    lengths = np.linalg.norm(crystal.lattice, axis=1)
    unit = crystal.lattice / lengths[:, None]
    angles = np.degrees(np.arccos([unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]]))
    lines = [f"data_{name}", "_symmetry_space_group_name_H-M 'P 1'", "_symmetry_Int_Tables_number 1"]
    lines += [f"_cell_length_{axis} {value:.12f}" for axis, value in zip("abc", lengths, strict=True)]
    greek = ("alpha", "beta", "gamma")
    lines += [f"_cell_angle_{angle} {value:.12f}" for angle, value in zip(greek, angles, strict=True)]
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", "'x, y, z'", "loop_", "_atom_site_type_symbol"]
    lines += ["_atom_site_label", *(f"_atom_site_fract_{axis}" for axis in "xyz"), "_atom_site_occupancy"]
    for k, (number, frac) in enumerate(zip(crystal.numbers.tolist(), crystal.frac, strict=True)):
        name = symbol(number)
        lines.append(f"{name} {name}{k} " + " ".join(f"{x:.12f}" for x in frac) + " 1")
    return "\n".join(lines) + "\n"


def read(folder: Path) -> "tuple[list[Structure], list[float]]":
    """Return structures and labels of what ``write`` put into ``folder``, in its order."""
    from pymatgen.io.cif import CifParser

    with (folder / TABLE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    found = [
        CifParser(folder / f"{name}.cif", frac_tolerance=0).parse_structures(primitive=False)[0] for name, _ in rows
    ]
    return found, [float(label) for _, label in rows]
