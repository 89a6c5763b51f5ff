"""Write tltool/elements.csv from pymatgen's element data and gemmi's radii: python scripts/build_elements.py."""

import csv
import math
import sys
import warnings
from pathlib import Path

import gemmi
from pymatgen.core.periodic_table import Element

SOURCE = (
    "# Element data as pymatgen states them (MIT licence), covalent radii (Å) as gemmi does (MPL 2.0); made by "
    "scripts/build_elements.py.\n"
)
COLUMNS = [
    "number", "symbol", "group", "period", "electronegativity", "radius", "valence_electrons", "ionisation_energy",
    "electron_affinity", "block", "volume", "mass", "covalent_radius",
]  # fmt: skip


def known(element: Element, name: str) -> str:
    """Return a finite property as text, anything else as an empty field."""
    try:
        number = float(getattr(element, name))
    except (TypeError, ValueError, KeyError, AttributeError):
        return ""
    return f"{number:.6g}" if math.isfinite(number) else ""


def valence(element: Element) -> int | str:
    """Count the electrons outside the noble-gas core, full d and f shells left out; empty where unknown."""
    try:
        shells = element.full_electronic_structure
    except KeyError:
        return ""
    core = max((n for n, _, _ in shells), default=1)
    outer = [
        (n, kind, count)
        for n, kind, count in shells
        if n == core or (kind == "d" and n == core - 1 and count < 10) or (kind == "f" and n == core - 2 and count < 14)
    ]
    return min(sum(count for _, _, count in outer), 12)


def main(path: Path) -> None:
    """Write the table to ``path``."""
    warnings.simplefilter("ignore")  # pymatgen warns for every value it does not have
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(SOURCE)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number in range(1, 119):
            e = Element.from_Z(number)
            writer.writerow(
                [
                    number,
                    e.symbol,
                    e.group,
                    e.row,
                    known(e, "X"),
                    known(e, "atomic_radius_calculated") or known(e, "atomic_radius"),
                    valence(e),
                    known(e, "ionization_energy"),
                    known(e, "electron_affinity"),
                    e.block,
                    known(e, "molar_volume"),
                    known(e, "atomic_mass"),
                    f"{gemmi.Element(number).covalent_r:.6g}",
                ]
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "tltool" / "elements.csv")
