"""CIFs that programs and people really write, but that hold no crystal: a sentence says why."""

import re
from pathlib import Path

import pytest
from odd_structures import (
    BOX,
    CARBON,
    MONO_C,
    NI_O2,
    ORTHO,
    PAIR,
    ROCK,
    SALT_C,
    SALT_CUBE,
    SMALL,
    cell,
    known,
    only,
    operations,
    text,
)

from tltool.errors import DataError


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
    "tetrahedral site": (text(cell(5, 5, 5), "T1 . 0 0 0\nO1 . .5 .5 .5\n"), "element of a site is unknown"),
    "site of no element": (text(cell(5, 5, 5), "M1 . 0 0 0\nO1 . .5 .5 .5\n"), "element of a site is unknown"),
    "neither label nor type": (text(cell(5, 5, 5), ". . 0 0 0\n? . .5 .5 .5\n"), "no type symbol and no label"),
    "two elements on one place": (text(cell(3, 3, 3), "Fe1 Fe 0 0 0\nZn1 Zn 0 0 0\n"), "have the same position"),
    "name that is not known": (text(BOX, ROCK, group="F m -7 m"), "space group is not known"),
    "open origin": (text(CARBON, "C1 C .125 .125 .125\n", group="F d -3 m", formula="C"), "two origin choices"),
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
        "names different space groups",
    ),
    "operations without the identity": (text(cell(6, 6, 8), SMALL, more=operations("-x,-y,-z")), "lacks the identity"),
    "operations that are no group": (
        text(BOX, ROCK, more=operations("x,y,z", "-y,x,z")),
        "list of symmetry operations is incomplete",
    ),
    "operation that cannot be read": (text(BOX, ROCK, more=operations("x,y,z", "x,y,q")), "cannot be read"),
    "name and Z against the operations": (
        text(cell(6, 6, 8), SMALL, group="P -1", formula="C H", more="_cell_formula_units_Z 2\n" + operations("x,y,z")),
        "contradicts the formula units",
    ),
    "name against the operations": (
        text(cell(6, 6, 8), SMALL, group="P -1", more=operations("x,y,z")),
        "but the space group has",
    ),
    "Z without a group": (text(BOX, ROCK, formula="Ni O", more="_cell_formula_units_Z 4\n"), "formula units"),
    "operations unknown": (
        text(BOX, ROCK, more="_symmetry_cell_setting cubic\n" + operations("?")),
        "no space group and no symmetry operations",
    ),
    "magnetic group without operations": (
        text(BOX, ROCK, more="_space_group_magn.number_BNS 15.90\n"),
        "magnetic space group without its operations",
    ),
    "modulated": (text(BOX, ROCK, more="_cell_modulation_dimension 1\n"), "modulated structure"),
    "multiplicities": (
        text(BOX, "Ni1 Ni 0 0 0 4\nO1 O .5 .5 .5 8\n", group="F m -3 m", columns="_atom_site_symmetry_multiplicity"),
        "contradicts the stated multiplicities",
    ),
    "density": (text(BOX, ROCK, more="_exptl_crystal_density_diffrn 6.8\n"), "density differs from the stated one"),
    "volume": (
        text(BOX, ROCK, group="F m -3 m", more="_cell_volume 145.0\n"),
        "volume of the cell differs from the stated",
    ),
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
    "Cartesian": (
        text(SALT_CUBE, "Na1 Na 0 0 0\nCl1 Cl 2 2 2\n").replace("_fract_", "_Cartn_"),
        "only Cartesian coordinates",
    ),
    "cut within a row": (text(BOX, "Ni1 Ni 0 0\n"), "a row of a loop is incomplete"),
    "no cell": (text("", "Na1 Na 0 0 0\n"), "has no _cell_length_a"),
    "negative angle": (text(SALT_CUBE.replace("alpha 90", "alpha -90"), PAIR), "between 0 and 180"),
    "negative length": (text(SALT_CUBE.replace("a 5.64", "a -5.64"), PAIR), "not a positive number"),
    "angles in radians": (text(SALT_CUBE.replace(" 90", " 1.5708"), PAIR), "too flat|too little room|too close"),
    "angles of no cell": (
        text(SALT_CUBE.replace(" 90", " 150"), PAIR),
        "a cell with the angles .* is impossible|too flat",
    ),
    "lengths in nm": (text(cell(0.56, 0.56, 0.56), PAIR), "too little room|too close"),
    "placeholder cell": (text(cell(1, 1, 1), ROCK, group="F m -3 m", formula="Ni O"), "too little room|too close"),
    "two atoms too close": (
        text(cell(10, 10, 10), "Ni1 Ni 0 0 0\nO1 O .02 0 0\n"),
        r"two sites are too close \(Ni and O 0\.20 Å apart, limit 0\.95 Å\)",
    ),
    "lost decimal point": (text(cell(3.796, 3.796, 68517886), PAIR, formula="Cl Na"), "too long for a crystal"),
    "angle of 0.001": (text(cell(5, 5, 5, 60, 60, 0.001), PAIR), "too flat|a cell with the angles .* is impossible"),
    "degrees": (text(SALT_CUBE.replace("alpha 90", "alpha 90\u00b0"), PAIR), "between 0 and 180"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_odd_cif_is_refused_with_a_sentence(kind: str, tmp_path: Path) -> None:
    data, words = REFUSED[kind]
    found = only(tmp_path, data)
    assert isinstance(found, DataError), known(found)
    assert re.search(words, str(found)), found
