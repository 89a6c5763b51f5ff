"""Names in a CIF: labels of sites give their element, and space groups are known in every spelling."""

import re
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_structures import cell, known, only, operations, text

from tltool.data.formats.cif import cif_file, space_groups
from tltool.data.record import Crystal
from tltool.errors import DataError

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
        assert "element of a site is unknown" in str(found)
    else:
        assert isinstance(found, Crystal), found
        assert known(found).formula == wanted


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
