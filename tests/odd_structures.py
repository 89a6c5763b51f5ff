"""What the tests of files that programs and people really write share: known crystals, and the text of a CIF.

The right values are those of the crystal that a file was made from: reduced formula, sites per cell, volume per atom
(Å3), nearest distance (Å) and ``surroundings``, a sum over neighbours that tells arrangements apart.
"""

import re
from collections import Counter
from math import gcd
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tltool.data.formats import structure_files
from tltool.data.graph import neighbours
from tltool.data.record import Crystal
from tltool.elements import symbol
from tltool.errors import DataError


class Known(NamedTuple):
    """What a crystal is known by; ``sites`` lists the cells that are as good."""

    formula: str
    sites: tuple[int, ...]
    volume: float
    nearest: float
    surroundings: float


NI_O = Known("ONi", (2, 8), 9.06396, 2.085, 128.89469)
NI_O_CUBE = Known("ONi", (2,), 36.25586, 3.61133, 26.45862)
DIAMOND = Known("C", (2, 8), 5.67309, 1.54456, 76.89877)
CALCITE_R = Known("CO3Ca", (10, 30), 12.18567, 1.29488, 54.24151)
CALCITE_H = Known("CO3Ca", (10, 30), 12.2628, 1.28243, 53.95264)
PB_F_CL = Known("FClPb", (6,), 20.35498, 2.53712, 91.66891)
ANATASE = Known("O2Ti", (6, 12), 11.35831, 1.93403, 73.29136)
ALUMINIUM = Known("Al", (1, 4), 16.60753, 2.86378, 52.54625)
P21_C = Known("NaCl", (8,), 25.8512, 2.11387, 34.43643)
P21_N = Known("NaCl", (8,), 25.8512, 1.81086, 34.94474)
NA_CL_CUBE = Known("NaCl", (2,), 89.70307, 4.88438, 6.9953)
THREE = Known("O2Ni", (3,), 70.0, 1.94805, 11.46064)
C_H = Known("HC", (4,), 72.0, 1.29074, 3.86958)
PEROVSKITE = Known("O3VSr", (5,), 11.3824, 1.92326, 91.04136)
LI_D = Known("HLi", (2,), 33.95866, 3.53338, 3.21785)


def known(crystal: Crystal) -> Known:
    """Return what a crystal is known by."""
    n = len(crystal.numbers)
    counts = Counter(crystal.numbers.tolist())
    common = gcd(*counts.values())
    formula = "".join(f"{symbol(z)}{k // common if k > common else ''}" for z, k in sorted(counts.items()))
    found = neighbours.find(crystal, 8.0, None, "strict")
    root = np.sqrt(crystal.numbers)
    weight = root[found.site] * root[found.neighbour] * np.exp(-found.distance / 1.5)
    volume = float(abs(np.linalg.det(crystal.lattice))) / n
    return Known(formula, (n,), volume, float(found.distance.min()), float(weight.sum()) / n)


def assert_is(crystal: Crystal | DataError, wanted: Known) -> None:
    assert isinstance(crystal, Crystal), crystal
    found = known(crystal)
    assert found.formula == wanted.formula
    assert found.sites[0] in wanted.sites
    assert found[2:] == pytest.approx(wanted[2:], rel=0.01)


def cell(a: float, b: float, c: float, alpha: float = 90, beta: float = 90, gamma: float = 90) -> str:
    """Return the lines of a cell."""
    lengths = "".join(f"_cell_length_{k} {v}\n" for k, v in zip("abc", (a, b, c), strict=True))
    return lengths + f"_cell_angle_alpha {alpha}\n_cell_angle_beta {beta}\n_cell_angle_gamma {gamma}\n"


def text(box: str, rows: str, *, group: str = "", formula: str = "", more: str = "", columns: str = "") -> str:
    """Return a CIF; ``columns`` come after label, type symbol and coordinates."""
    return (
        f"data_phase\n{box}"
        + (f"_chemical_formula_sum '{formula}'\n" if formula else "")
        + (f"_symmetry_space_group_name_H-M '{group}'\n" if group else "")
        + more
        + "loop_\n_atom_site_label\n_atom_site_type_symbol\n"
        + "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        + "".join(f"{word}\n" for word in columns.split())
        + rows
    )


def operations(*words: str) -> str:
    return "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"{word}\n" for word in words)


def only(path: Path, data: str | bytes, name: str = "odd.cif") -> Crystal | DataError:
    """Return what one file with ``data`` gives, and that a reason names the file."""
    file = path / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    found = list(structure_files.attempts(file))
    assert len(found) == 1
    crystal = found[0][1]
    if isinstance(crystal, DataError):
        assert name in str(crystal)
        assert "\n" not in str(crystal)
        assert not re.search(r"Error|Exception|Traceback|0x[0-9a-f]{6}", str(crystal))
    return crystal


BOX = cell(4.17, 4.17, 4.17)
ROCK = "Ni1 Ni 0 0 0\nO1 O 0.5 0.5 0.5\n"
FULL_ROCK = (
    "Ni1 Ni 0 0 0\nNi2 Ni 0 .5 .5\nNi3 Ni .5 0 .5\nNi4 Ni .5 .5 0\n"
    "O5 O .5 .5 .5\nO6 O .5 0 0\nO7 O 0 .5 0\nO8 O 0 0 .5\n"
)
ORTHO = cell(5, 6, 7)
SMALL = "C1 C 0.1 0.05 0.02\nH1 H 0.28 0.1 0.1\n"
CARBON = cell(3.567, 3.567, 3.567)
MONO, SALT = cell(5, 6, 7, beta=100), "Na1 Na 0.1 0.2 0.3\nCl1 Cl 0.4 0.55 0.81\n"
MONO_C, SALT_C = cell(5, 7, 6, gamma=100), "Na1 Na 0.1 0.3 0.2\nCl1 Cl 0.4 0.81 0.55\n"
SALT_CUBE = cell(5.64, 5.64, 5.64)
PAIR = "Na1 Na 0 0 0\nCl1 Cl .5 .5 .5\n"
RHOMB, HEXA = cell(6.361, 6.361, 6.361, 46.1, 46.1, 46.1), cell(4.99, 4.99, 17.062, gamma=120)
IN_RHOMB, IN_HEXA = (
    "Ca1 Ca 0 0 0\nC1 C .25 .25 .25\nO1 O .51 -.01 .25\n",
    "Ca1 Ca 0 0 0\nC1 C 0 0 .25\nO1 O .257 0 .25\n",
)
MATLOCK = cell(4.11, 4.11, 7.23)
NI_O2 = "Ni1 Ni 0 0 0\nO1 O 0.25 -0.22 0.1\nO2 O 0.45 0.15 0.35\n"
FACE = cell(4.05, 4.05, 4.05)
