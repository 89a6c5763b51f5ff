"""Files that programs and people really write, one kind after another: the right crystal, or a sentence why not.

The right values are those of the crystal that a file was made from: reduced formula, sites per cell, volume per atom
(Å3), nearest distance (Å) and ``surroundings``, a sum over neighbours that tells arrangements apart.
"""

import gzip
import json
import re
import time
from collections import Counter
from math import gcd
from pathlib import Path
from typing import NamedTuple

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tltool.data import structure_checks
from tltool.data.formats import structure_files
from tltool.data.formats.cif import cif_file, space_groups
from tltool.data.graph import neighbours
from tltool.data.record import Crystal
from tltool.elements import symbol
from tltool.errors import ConfigError, DataError


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


def aluminium(name: str) -> tuple[str, Known]:
    return text(FACE, "Al1 Al 0 0 0\n", group=name, formula="Al"), ALUMINIUM


def monoclinic(name: str, wanted: Known = P21_C) -> tuple[str, Known]:
    return text(MONO, SALT, group=name, formula="Cl Na"), wanted


RIGHT: dict[str, tuple[str | bytes, Known]] = {
    "blanks left out": aluminium("Fm-3m"),
    "old symbol": aluminium("F m 3 m"),
    "small letters": aluminium("fm-3m"),
    "full symbol": aluminium("F 4/m -3 2/m"),
    "bar in TeX": aluminium(r"Fm$\bar{3}$m"),
    "number beside the name": aluminium("F m -3 m (No. 225)"),
    "screw axis after _": monoclinic("P2_1/c"),
    "screw axis in brackets": monoclinic("P2(1)/c"),
    "screw axis in brackets, blanks": monoclinic("P 2(1)/c"),
    "screw axis between ~": monoclinic("P2~1~/n", P21_N),
    "screw axis below the line": monoclinic("P2\u2081/c"),
    "full name of a monoclinic group": monoclinic("P 1 21/n 1", P21_N),
    "unknown name and a number": (
        text(MONO, SALT, group="Unknown", formula="Cl Na", more="_space_group_IT_number 14\n"),
        P21_C,
    ),
    "unique axis c": (text(MONO_C, SALT_C, group="P 1 1 21/b", formula="Cl Na"), P21_C),
    "second origin, Z": (text(CARBON, "C1 C .125 .125 .125\n", group="Fd-3mZ", formula="C"), DIAMOND),
    "first origin, S": (text(CARBON, "C1 C 0 0 0\n", group="F d -3 m S", formula="C"), DIAMOND),
    "second origin, :2": (text(CARBON, "C1 C .125 .125 .125\n", group="F d -3 m :2", formula="C"), DIAMOND),
    "origin from Z": (
        text(CARBON, "C1 C 0 0 0\n", group="F d -3 m", formula="C", more="_cell_formula_units_Z 8\n"),
        DIAMOND,
    ),
    "origin from the density": (
        text(CARBON, "C1 C .125 .125 .125\n", group="F d -3 m", more="_exptl_crystal_density_diffrn 3.515\n"),
        DIAMOND,
    ),
    "origin from the multiplicities": (
        text(
            cell(3.785, 3.785, 9.514),
            "Ti1 Ti 0 0 0 4\nO1 O 0 0 0.2081 8\n",
            group="I 41/a m d",
            formula="O2 Ti",
            columns="_atom_site_symmetry_multiplicity",
        ),
        ANATASE,
    ),
    "origin Z of a tetragonal group": (
        text(
            MATLOCK,
            "Pb1 Pb .25 .25 .2058\nF1 F .75 .25 0\nCl1 Cl .25 .25 .6497\n",
            group="P 4/n m m Z",
            formula="Cl F Pb",
        ),
        PB_F_CL,
    ),
    "origin S without a formula": (
        text(MATLOCK, "Pb1 Pb 0 .5 .2058\nF1 F 0 0 0\nCl1 Cl 0 .5 .6497\n", group="P 4/n m m S"),
        PB_F_CL,
    ),
    "rhombohedral axes, RS": (text(RHOMB, IN_RHOMB, group="R -3 c RS", formula="C Ca O3"), CALCITE_R),
    "rhombohedral axes, from the cell": (text(RHOMB, IN_RHOMB, group="R -3 c", formula="C Ca O3"), CALCITE_R),
    "hexagonal axes, HR": (text(HEXA, IN_HEXA, group="R -3 c HR", formula="C Ca O3"), CALCITE_H),
    "hexagonal axes, from the number": (
        text(HEXA, IN_HEXA, formula="C Ca O3", more="_space_group_IT_number 167\n"),
        CALCITE_H,
    ),
    "hexagonal axes, H": (text(HEXA, IN_HEXA, group="R-3cH", formula="C Ca O3"), CALCITE_H),
    "byte order mark": (b"\xef\xbb\xbf" + text(BOX, ROCK, group="F m -3 m", formula="Ni O").encode(), NI_O),
    "UTF-16": (text(BOX, ROCK, group="F m -3 m", formula="Ni O").encode("utf-16"), NI_O),
    "line ends of Windows": (text(BOX, ROCK, group="F m -3 m").replace("\n", "\r\n"), NI_O),
    "line ends of old Macs": (text(BOX, ROCK, group="F m -3 m").replace("\n", "\r"), NI_O),
    "NUL at the end": (text(BOX, ROCK, group="F m -3 m").encode() + b"\0\0", NI_O),
    "non-breaking blank": (text(BOX, ROCK, group="F m -3 m").replace("Ni1 ", "Ni1\u00a0 "), NI_O),
    "one byte that is not UTF-8": (
        text(CARBON, "C1 C .125 .125 .125\n", group="F d -3 m :2", more="_publ_section_title 'n\u00f8re'\n").encode(
            "latin-1"
        ),
        DIAMOND,
    ),
    "typographic minus": (text(ORTHO, NI_O2.replace("-0.22", "\u22120.22")), THREE),
    "reserved words in capitals": (
        text(BOX, ROCK, group="F m -3 m").replace("data_", "DATA_").replace("loop_", "LOOP_").replace("_cell", "_CELL"),
        NI_O,
    ),
    "type symbols alone": (
        text(SALT_CUBE, "Na 0 0 0\nCl .5 .5 .5\n").replace("_atom_site_label\n", ""),
        NA_CL_CUBE,
    ),
    "deuterium": (text(cell(4.08, 4.08, 4.08), "Li1 7Li 0 0 0\nD1 D .5 .5 .5\n"), LI_D),
    "uncertainties": (
        text(cell(5.64, 5.64, 5.64).replace("5.64", "5.640(2)"), "Na1 Na 0.0000(0) 0 0.\nCl1 Cl .5(1) 5e-1 .50(12)\n"),
        NA_CL_CUBE,
    ),
    "occupancy left open": (
        text(SALT_CUBE, "Na1 Na 0 0 0 .\nCl1 Cl .5 .5 .5 ?\n", columns="_atom_site_occupancy"),
        NA_CL_CUBE,
    ),
    "empty site": (
        text(SALT_CUBE, "Na1 Na 0 0 0 0.0\nCl1 Cl .5 .5 .5 1\nNa2 Na 0 0 0 1\n", columns="_atom_site_occupancy"),
        NA_CL_CUBE,
    ),
    "angles left out": (
        text(re.sub(r"_cell_angle.*\n", "", SALT_CUBE), PAIR),
        NA_CL_CUBE,
    ),
    "dummy with an element's symbol": (
        text(BOX, "Ni1 Ni 0 0 0 d\nO1 O .5 .5 .5 d\nC1 C .25 .25 .25 dum\n", columns="_atom_site_calc_flag"),
        NI_O_CUBE,
    ),
    "one operation twice": (text(cell(6, 6, 8), SMALL, more=operations("x,y,z", "-x,-y,-z", "x,y,z")), C_H),
    "numbered operations in capitals": (
        text(cell(6, 6, 8), SMALL, more=operations("'1 X,Y,Z'", "'2 -X, -Y, -Z'")),
        C_H,
    ),
    "operation outside a loop": (
        text(SALT_CUBE, PAIR, more="_symmetry_equiv_pos_as_xyz 'x, y, z'\n"),
        NA_CL_CUBE,
    ),
    "all sites listed, the group's name left": (
        text(
            BOX,
            FULL_ROCK,
            group="F m -3 m",
            formula="Ni O",
            more="_cell_formula_units_Z 4\n" + operations("x,y,z"),
        ),
        NI_O,
    ),
    "the same without Z": (text(BOX, FULL_ROCK, group="F m -3 m", more=operations("x,y,z")), NI_O),
    "the formula is that of the cell": (
        text(BOX, FULL_ROCK, group="P 1", formula="Ni4 O4", more="_cell_formula_units_Z 4\n"),
        NI_O,
    ),
    "magnetic operations": (
        text(
            BOX,
            ROCK,
            formula="Ni O",
            more="loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\nx,y+1/2,z+1/2,+1\nx+1/2,y,z+1/2,+1\n"
            "x+1/2,y+1/2,z,+1\n",
        ),
        NI_O,
    ),
    "magnetic operations and centring": (
        text(
            BOX,
            ROCK,
            formula="Ni O",
            more="loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1\n-x,-y,-z,+1\n"
            "loop_\n_space_group_symop_magn_centering.xyz\nx,y,z,+1\nx,y+1/2,z+1/2,-1\nx+1/2,y,z+1/2,-1\n"
            "x+1/2,y+1/2,z,-1\n",
        ),
        NI_O,
    ),
    "an atom listed twice": (text(SALT_CUBE, PAIR + "Na2 Na 1 0 0.00001\n", formula="Cl Na"), NA_CL_CUBE),
    "a molecule in a box": (
        text(cell(30, 30, 30), "O1 O 0 0 0\nO2 O 0.0403 0 0\n"),
        Known("O", (2,), 13500.0, 1.209, 3.57313),
    ),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_odd_cif_gives_the_right_crystal(kind: str, tmp_path: Path) -> None:
    data, wanted = RIGHT[kind]
    assert_is(only(tmp_path, data), wanted)


def shared(word: str) -> str:
    return text(cell(3.3, 3.3, 3.3), f"M1 {word} 0 0 0\nNb2 Nb .5 .5 .5\n")


REFUSED: dict[str, tuple[str, str]] = {
    "mixed site, amounts": (shared("Nb0.8Zr0.2"), "shared by several elements"),
    "mixed site, stroke": (shared("Nb/Zr"), "shared by several elements"),
    "mixed site, comma": (shared("'Nb,Zr'"), "shared by several elements"),
    "mixed site, in the label": (
        text(cell(3.3, 3.3, 3.3), "'Nb,Zr' . 0 0 0\nNb2 . .5 .5 .5\n"),
        "shared by several elements",
    ),
    "tetrahedral site": (text(cell(5, 5, 5), "T1 . 0 0 0\nO1 . .5 .5 .5\n"), "not a real element"),
    "site of no element": (text(cell(5, 5, 5), "M1 . 0 0 0\nO1 . .5 .5 .5\n"), "not a real element"),
    "neither label nor type": (text(cell(5, 5, 5), ". . 0 0 0\n? . .5 .5 .5\n"), "neither a type symbol nor a label"),
    "two elements on one place": (text(cell(3, 3, 3), "Fe1 Fe 0 0 0\nZn1 Zn 0 0 0\n"), "on the same position"),
    "name that is not understood": (text(BOX, ROCK, group="F m -7 m"), "space group is not understood"),
    "open origin": (text(CARBON, "C1 C .125 .125 .125\n", group="F d -3 m", formula="C"), "two origins"),
    "number alone, unique axis c": (
        text(MONO_C, SALT_C, more="_space_group_IT_number 14\n"),
        "cell does not have the symmetry of the space group",
    ),
    "number alone, no cubic cell": (
        text(ORTHO, PAIR, more="_space_group_IT_number 225\n"),
        "cell does not have the symmetry of the space group",
    ),
    "name and number of two groups": (
        text(BOX, ROCK, group="F m -3 m", more="_space_group_IT_number 221\n"),
        "contradict each other",
    ),
    "operations without the identity": (text(cell(6, 6, 8), SMALL, more=operations("-x,-y,-z")), "lacks the identity"),
    "operations that are no group": (
        text(BOX, ROCK, more=operations("x,y,z", "-y,x,z")),
        "list of symmetry operations is incomplete",
    ),
    "operation that cannot be read": (text(BOX, ROCK, more=operations("x,y,z", "x,y,q")), "cannot be read"),
    "name and Z against the operations": (
        text(cell(6, 6, 8), SMALL, group="P -1", formula="C H", more="_cell_formula_units_Z 2\n" + operations("x,y,z")),
        "does not fit the formula units",
    ),
    "name against the operations": (
        text(cell(6, 6, 8), SMALL, group="P -1", more=operations("x,y,z")),
        "contradicts the space group",
    ),
    "Z without a group": (text(BOX, ROCK, formula="Ni O", more="_cell_formula_units_Z 4\n"), "formula units"),
    "operations unknown": (
        text(BOX, ROCK, more="_symmetry_cell_setting cubic\n" + operations("?")),
        "neither space group nor symmetry operations",
    ),
    "magnetic group without operations": (
        text(BOX, ROCK, more="_space_group_magn.number_BNS 15.90\n"),
        "magnetic space group without its operations",
    ),
    "modulated": (text(BOX, ROCK, more="_cell_modulation_dimension 1\n"), "modulated structure"),
    "multiplicities": (
        text(BOX, "Ni1 Ni 0 0 0 4\nO1 O .5 .5 .5 8\n", group="F m -3 m", columns="_atom_site_symmetry_multiplicity"),
        "do not fit their stated multiplicities",
    ),
    "density": (text(BOX, ROCK, more="_exptl_crystal_density_diffrn 6.8\n"), "density is not the stated one"),
    "volume": (text(BOX, ROCK, group="F m -3 m", more="_cell_volume 145.0\n"), "volume of the cell is not the stated"),
    "a cell length twice": (text(BOX, ROCK, more="_cell_length_a 5.0\n"), "_cell_length_a twice"),
    "the group twice": (
        text(BOX, ROCK, group="F m -3 m", more="_symmetry_space_group_name_H-M 'P 1'\n"),
        "_symmetry_space_group_name_H-M twice",
    ),
    "two loops of sites": (
        text(BOX, ROCK, group="F m -3 m")
        + "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        + "Ni1 0 0 0\nO1 .25 .25 .25\n",
        "twice",
    ),
    "a column lost": (
        "data_a\n" + ORTHO + "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\nNi1 0 0\nO1 -.25 .1\n",
        "no column _atom_site_fract_z",
    ),
    "a column misspelt": (text(ORTHO, NI_O2).replace("_fract_z", "_frac_z"), "no column _atom_site_fract_z"),
    "a position unknown": (
        text(SALT_CUBE, "Na1 Na 0 0 0\nCl1 Cl ? ? ?\n"),
        "position of a site is not a finite number",
    ),
    "Cartesian": (text(SALT_CUBE, "Na1 Na 0 0 0\nCl1 Cl 2 2 2\n").replace("_fract_", "_Cartn_"), "Cartesian positions"),
    "cut within a row": (text(BOX, "Ni1 Ni 0 0\n"), "a row of a loop is incomplete"),
    "no cell": (text("", "Na1 Na 0 0 0\n"), "cell is unknown"),
    "negative angle": (text(SALT_CUBE.replace("alpha 90", "alpha -90"), PAIR), "between 0 and 180"),
    "negative length": (text(SALT_CUBE.replace("a 5.64", "a -5.64"), PAIR), "not a positive number"),
    "angles in radians": (text(SALT_CUBE.replace(" 90", " 1.5708"), PAIR), "too flat|too little room|too close"),
    "angles of no cell": (text(SALT_CUBE.replace(" 90", " 150"), PAIR), "no cell has the angles|too flat"),
    "lengths in nm": (text(cell(0.56, 0.56, 0.56), PAIR), "too little room|too close"),
    "placeholder cell": (text(cell(1, 1, 1), ROCK, group="F m -3 m", formula="Ni O"), "too little room|too close"),
    "two atoms too close": (
        text(cell(10, 10, 10), "Ni1 Ni 0 0 0\nO1 O .02 0 0\n"),
        r"two sites are too close \(Ni and O 0\.20 Å apart, limit 0\.95 Å\)",
    ),
    "lost decimal point": (text(cell(3.796, 3.796, 68517886), PAIR, formula="Cl Na"), "too long for a crystal"),
    "angle of 0.001": (text(cell(5, 5, 5, 60, 60, 0.001), PAIR), "too flat|no cell has the angles"),
    "degrees": (text(SALT_CUBE.replace("alpha 90", "alpha 90\u00b0"), PAIR), "between 0 and 180"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_odd_cif_is_refused_with_a_sentence(kind: str, tmp_path: Path) -> None:
    data, words = REFUSED[kind]
    found = only(tmp_path, data)
    assert isinstance(found, DataError), known(found)
    assert re.search(words, str(found)), found


LABELS = {
    ("Ow1", ""): "ONa", ("OH1", ""): "ONa", ("CaM1", ""): "NaCa", ("CO1", "Co Na"): "NaCo", ("CO1", "C Na"): "CNa",
    ("HO1", "Ho Na"): "NaHo", ("Fe1A", ""): "NaFe", ("cl1", "Cl Na"): "NaCl", ("O2-", ""): "ONa", ("N(b)", ""): "NNa",
    ("O_1", ""): "ONa", ("CO1", ""): None, ("cl1", ""): None, ("AlSi1", ""): None, ("Cg1", ""): None, ("T1", ""): None,
}  # fmt: skip


@pytest.mark.parametrize(("label", "formula"), LABELS)
def test_element_of_a_label_is_told_or_refused_but_not_guessed(label: str, formula: str, tmp_path: Path) -> None:
    found = only(tmp_path, text(cell(5, 5, 5), f"Na1 . 0 0 0\n{label} . .5 .5 .5\n", formula=formula))
    wanted = LABELS[label, formula]
    if wanted is None:
        assert isinstance(found, DataError)
        assert "not a real element" in str(found)
    else:
        assert isinstance(found, Crystal), found
        assert known(found).formula == wanted


def poscar(*, scale: str = "1.0", symbols: str = "Sr V O", counts: str = "1 1 3", mode: str = "Direct\n") -> str:
    a = 1 if scale.startswith("-") else 3.84652
    rows = "0 0 0\n0.5 0.5 0.5\n0.5 0.5 0\n0.5 0 0.5\n0 0.5 0.5\n"
    return f"c\n{scale}\n{a} 0 0\n0 {a} 0\n0 0 {a}\n" + (f"{symbols}\n" if symbols else "") + f"{counts}\n{mode}{rows}"


POSCARS: dict[str, tuple[str | bytes, Known | str]] = {
    "plain": (poscar(), PEROVSKITE),
    "volume": (poscar(scale="-56.9120"), PEROVSKITE),
    "volume, Cartesian": (poscar(scale="-56.9120", mode="Cartesian\n"), PEROVSKITE),
    "factor, Cartesian": (poscar(mode="cart\n").replace("3.84652", "1").replace("1.0", "3.84652", 1), PEROVSKITE),
    "three factors": (poscar(scale="1.0 1.0 1.0"), PEROVSKITE),
    "selective dynamics": (poscar(mode="Selective dynamics\nDirect\n").replace("0.5 0\n", "0.5 0 T T F\n"), PEROVSKITE),
    "names of potentials": (poscar(symbols="Sr_sv V_pv O/0af3"), PEROVSKITE),
    "comment in Latin-1": (poscar().replace("c\n", "f\u00fcr\n", 1).encode("latin-1"), PEROVSKITE),
    "exponents of Fortran": (poscar().replace("3.84652", "0.384652D+01"), PEROVSKITE),
    "velocities": (poscar() + "\n0 0 0\n" * 5, PEROVSKITE),
    "a position missing": (poscar().rsplit("0 0.5 0.5", 1)[0], "has 4 of the 5 positions"),
    "no mode": (poscar(mode=""), "must say Direct or Cartesian"),
    "fewer counts": (poscar(counts="1 1"), "3 elements .* 2 counts"),
    "no element": (poscar(symbols="Sr Va O"), "'Va' .* not a real element"),
    "no symbols": (poscar(symbols=""), "names no elements"),
    "no volume": (poscar().replace("3.84652 0 0", "0 0 0"), "no volume"),
    "coincident": (poscar().replace("0.5 0.5 0.5", "0 0 0"), "too close"),
    "a word for a number": (poscar().replace("3.84652 0 0", "a 0 0"), "line 3 should hold three numbers"),
    "needle": ("t\n1.0\n1e9 0 0\n0 3e-5 0\n0 0 3e-5\nFe\n1\nDirect\n0 0 0\n", "too long for a crystal"),
    "a flood of positions": (poscar(counts="1 1 3000000000"), "announces 3,000,000,002 positions"),
}


@pytest.mark.parametrize("kind", POSCARS)
def test_odd_poscar(kind: str, tmp_path: Path) -> None:
    data, wanted = POSCARS[kind]
    found = only(tmp_path, data, "odd.vasp")
    if isinstance(wanted, str):
        assert isinstance(found, DataError)
        assert re.search(wanted, str(found)), found
    else:
        assert_is(found, wanted)


def structure(**changes: object) -> dict[str, object]:
    sites = [{"species": [{"element": e, "occu": 1}], "abc": abc} for e, abc in (("Na", [0, 0, 0]), ("Cl", [0.5] * 3))]
    return {"lattice": {"matrix": (5.64 * np.eye(3)).tolist()}, "sites": sites} | changes


OTHERS: dict[str, tuple[str, str | bytes, Known | str]] = {
    "JSON": ("a.json", json.dumps(structure()), NA_CL_CUBE),
    "lengths and angles": ("a.json", json.dumps(structure(lattice={"a": 5.64})), "lacks 'matrix'"),
    "molecule": ("a.json", json.dumps(structure(lattice=None)), "cannot be read as a pymatgen structure"),
    "layer": (
        "a.json",
        json.dumps(structure(lattice={"matrix": np.eye(3).tolist(), "pbc": [True, True, False]})),
        "not periodic in three",
    ),
    "shear": (
        "a.json",
        json.dumps(structure(lattice={"matrix": [[5.64, 0, 0], [1e12, 5.64, 0], [0, 0, 5.64]]})),
        "too long for a crystal",
    ),
    "infinite": (
        "a.json",
        json.dumps(structure(lattice={"matrix": [[np.inf, 0, 0], [0, 1, 0], [0, 0, 1]]})),
        "not a finite number",
    ),
    "cut": ("a.json", json.dumps(structure())[:90], "is not JSON, or ends too early"),
    "deep": ("a.json", "[" * 100_000, "is not JSON"),
    "bomb": ("a.json.gz", gzip.compress(b"[" + b" " * 150_000_000, 6), "unpacks to more than"),
    "xyz without pbc": ("a.xyz", '2\nLattice="5.64 0 0 0 5.64 0 0 0 5.64"\nNa 0 0 0\nCl 2.82 2.82 2.82\n', NA_CL_CUBE),
    "xyz, cut": ("a.xyz", '2\nLattice="5.64 0 0 0 5.64 0 0 0 5.64"\nNa 0 0 0\n', "a frame is incomplete"),
    "xyz, molecule": ("a.xyz", "2\nwater\nH 0 0 0\nH 0 0 1\n", "not periodic in three"),
    "xyz, Latin-1": (
        "a.xyz",
        '2\nname=f\u00fcr Lattice="5.64 0 0 0 5.64 0 0 0 5.64"\nNa 0 0 0\nCl 2.82 2.82 2.82\n'.encode("latin-1"),
        NA_CL_CUBE,
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_odd_json_and_xyz(kind: str, tmp_path: Path) -> None:
    name, data, wanted = OTHERS[kind]
    found = only(tmp_path, data, name)
    if isinstance(wanted, str):
        assert isinstance(found, DataError)
        assert re.search(wanted, str(found)), found
    else:
        assert_is(found, wanted)


@pytest.mark.parametrize("symmetry", ["P 1", "P -1"])
def test_two_thousand_sites_take_no_time_that_grows_as_their_square(symmetry: str, tmp_path: Path) -> None:
    n, half = (2000, 1) if symmetry == "P 1" else (1000, 2)
    grid = np.stack(np.meshgrid(*[np.arange(k) for k in (20, 10, 10)], indexing="ij"), -1).reshape(-1, 3)[:n]
    frac = (grid + 0.25) / (20 * half, 10, 10) * (1, 1, 1)
    rows = "".join(f"C{k} C {x:.6f} {y:.6f} {z:.6f}\n" for k, (x, y, z) in enumerate(frac))
    begin = time.process_time()
    found = only(tmp_path, text(cell(40 * half, 20, 20), rows, group=symmetry))
    assert time.process_time() - begin < 3
    assert isinstance(found, Crystal), found
    assert len(found.numbers) == n * half


@pytest.mark.parametrize("n", [3, 120])
@given(seed=st.integers(0, 10**6), reach=st.floats(0.2, 4.0))
@settings(max_examples=40, deadline=None)
def test_near_pairs_are_those_of_the_plain_search(n: int, seed: int, reach: float) -> None:
    random = np.random.default_rng(seed)
    lattice = 3.0 * n ** (1 / 3) * np.eye(3) + random.uniform(-1, 1, (3, 3)) * n ** (1 / 3)
    crystal = Crystal(lattice, random.random((n, 3)), np.full(n, 6))
    site, other, distance = structure_checks.near_pairs(crystal, reach)
    plain = neighbours.find(crystal, reach, None, "strict")
    both = np.sort(np.concatenate([distance, distance[site != other]]))
    np.testing.assert_allclose(both, np.sort(plain.distance), atol=1e-9)


GROUPS = [group for group in gemmi.spacegroup_table() if group.is_reference_setting()]
SPELLINGS = {
    "as gemmi": lambda group: group.hm,
    "without blanks": lambda group: group.hm.replace(" ", ""),
    "short": lambda group: group.short_name(),
    "_": lambda group: re.sub(r"(\d)(\d)(?=[/ ]|$)", r"\1_\2", group.hm),
    "brackets": lambda group: re.sub(r"(\d)(\d)(?=[/ ]|$)", r"\1(\2)", group.hm),
    "tildes": lambda group: re.sub(r"(\d)(\d)(?=[/ ]|$)", r"\1~\2~", group.hm),
    "TeX": lambda group: re.sub(r"-(\d)", r"$\\bar{\1}$", group.hm),
    "Unicode": lambda group: re.sub(r"-(\d)", "\\1\u0304", group.hm),
}
SYSTEMS = {
    "triclinic": (5, 6, 7, 80, 85, 95), "monoclinic": (5, 6, 7, 90, 100, 90), "orthorhombic": (5, 6, 7, 90, 90, 90),
    "tetragonal": (6, 6, 9, 90, 90, 90), "trigonal": (6, 6, 9, 90, 90, 120), "hexagonal": (6, 6, 9, 90, 90, 120),
    "cubic": (9, 9, 9, 90, 90, 90),
}  # fmt: skip


@given(group=st.sampled_from(GROUPS), spelling=st.sampled_from(sorted(SPELLINGS)))
@settings(max_examples=150, deadline=None)
def test_a_crystal_is_the_same_in_any_spelling_of_its_group(group: gemmi.SpaceGroup, spelling: str) -> None:
    box, rows = cell(*SYSTEMS[group.crystal_system_str()]), "Mg1 Mg .1234 .2357 .3171\n"
    suffix = {"1": " S", "2": " Z", "H": " HR"}.get(group.ext, "")
    name = SPELLINGS[spelling](group) + suffix
    (found,) = cif_file.crystals(text(box, rows, group=name).encode(), "named")
    listed = operations(*(f"'{op.triplet()}'" for op in group.operations()))
    (wanted,) = cif_file.crystals(text(box, rows, more=listed).encode(), "listed")
    assert isinstance(found, Crystal), found
    assert isinstance(wanted, Crystal), wanted
    np.testing.assert_array_equal(*(np.unique(np.round(c.frac % 1, 4), axis=0) for c in (found, wanted)))


def test_all_groups_have_their_full_symbols() -> None:
    for full, short in (
        ("P 21/n 21/m 21/a", "P n m a"), ("I 41/a 2/m 2/d", "I 41/a m d"), ("P 63/m 2/m 2/c", "P 63/m m c"),
        ("F 41/d -3 2/m", "F d -3 m"), ("P 2/m 2/m 2/m", "P m m m"), ("R -3 2/c", "R -3 c"),
    ):  # fmt: skip
        assert space_groups.named(full, (90, 90, 90)) == space_groups.named(short, (90, 90, 90)) != None  # noqa: E711


def test_failed_checks_are_kept_and_named_if_asked(tmp_path: Path) -> None:
    warn = structure_checks.shipped()._replace(failed="warn")
    file = tmp_path / "a.cif"
    file.write_text(text(cell(10, 10, 10), "Ni1 Ni 0 0 0\nO1 O .02 0 0\n", formula="Ni O H2"))
    ((_, found),) = structure_files.attempts(file, warn)
    assert isinstance(found, Crystal)
    assert [fault.split(" (")[0] for fault in found.faults] == [
        "the sites do not add up to the stated formula",
        "two sites are too close",
    ]
    file.write_text(text(cell(3.8, 3.8, 68517886), PAIR))
    ((_, absurd),) = structure_files.attempts(file, warn)
    assert isinstance(absurd, DataError), "no search would come to an end"


def test_limits_are_those_of_the_yaml_and_can_be_changed(tmp_path: Path) -> None:
    shipped = structure_checks.shipped()
    assert shipped.failed == "refuse"
    file = tmp_path / "a.cif"
    file.write_text(text(cell(10, 10, 10), "Ni1 Ni 0 0 0\nO1 O .09 0 0\n"))
    (crystal,) = (crystal for _, crystal in structure_files.attempts(file))
    assert "0.90 Å apart, limit 0.95 Å" in str(crystal)
    loose = shipped._replace(limits=shipped.limits._replace(radii=0.4))
    (crystal,) = (crystal for _, crystal in structure_files.attempts(file, loose))
    assert isinstance(crystal, Crystal)
    whole = shipped.limits._asdict()
    for limits, words in ((whole | {"nearst": 1}, "Did you mean 'nearest'"), (whole | {"radii": -1}, "zero or more")):
        with pytest.raises(ConfigError, match=words):
            structure_checks.checks("refuse", limits)
    with pytest.raises(ConfigError, match="must be refuse or warn"):
        structure_checks.checks("skip", whole)
    with pytest.raises(ConfigError, match="lacks longest_edge"):
        structure_checks.checks("refuse", {})


def test_folders_that_are_links_are_followed_once(tmp_path: Path) -> None:
    root, there = tmp_path / "root", tmp_path / "there"
    (root / "sub").mkdir(parents=True)
    there.mkdir()
    (there / "a.cif").touch()
    (root / "sub" / "b.cif").touch()
    (root / "link").symlink_to(there)
    (root / "sub" / "again").symlink_to(there)
    (root / "sub" / "loop").symlink_to(root)
    assert structure_files.files(root) == [root / "link" / "a.cif", root / "sub" / "b.cif"]
