"""CIFs that programs and people really write: the crystal is the right one."""

import re
from pathlib import Path

import pytest
from odd_structures import (
    ALUMINIUM,
    ANATASE,
    BOX,
    C_H,
    CALCITE_H,
    CALCITE_R,
    CARBON,
    DIAMOND,
    FACE,
    FULL_ROCK,
    HEXA,
    IN_HEXA,
    IN_RHOMB,
    LI_D,
    MATLOCK,
    MONO,
    MONO_C,
    NA_CL_CUBE,
    NI_O,
    NI_O2,
    NI_O_CUBE,
    ORTHO,
    P21_C,
    P21_N,
    PAIR,
    PB_F_CL,
    RHOMB,
    ROCK,
    SALT,
    SALT_C,
    SALT_CUBE,
    SMALL,
    THREE,
    Known,
    assert_is,
    cell,
    only,
    operations,
    text,
)


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
