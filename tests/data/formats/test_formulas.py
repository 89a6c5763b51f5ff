"""Formulas as people write them give elements and amounts; what is no formula gives its reason; one name for equals."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition

from tltool.data.formats import formulas
from tltool.data.overlap.fingerprint import PROTOTYPE_BITS, fingerprint
from tltool.data.record import Crystal, formula, reason, reduced
from tltool.errors import DataError


def parsed(text: str) -> dict[int, float]:
    found = formulas.composition(text, "here")
    assert found.amounts is not None
    return dict(zip(found.numbers.tolist(), found.amounts.tolist(), strict=True))


@pytest.mark.parametrize(
    "text", ["Fe2O3", "Ca(OH)2", "Fe0.7Ni0.3", "K4[ON(SO3)2]2", "{Na2[Al(OH)4]}2", "La1.85Sr.15CuO4", "Mg 2 Si O 4"]
)
def test_formulas_mean_what_pymatgen_says(text: str) -> None:
    expected = {element.Z: amount for element, amount in Composition(text.replace(" ", "")).items()}
    assert parsed(text) == pytest.approx(expected)


def test_other_ways_to_write_one() -> None:
    assert parsed("CuSO4·5H2O") == parsed("CuSO4*5H2O") == {1: 10, 8: 9, 16: 1, 29: 1}
    assert parsed("Al₂O₃") == parsed("Al2O3")
    assert parsed("D2O") == parsed("HDO") == {1: 2, 8: 1}
    assert parsed("Fe1e-05Ni") == {26: 1e-05, 28: 1}
    assert parsed("Fe0.7Ni0.3Cr0") == {26: 0.7, 28: 0.3}, "none of it is not in it"
    assert np.isnan(formulas.composition("NaCl", "here").lattice).all()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Fe2Xx3", "'Xx' in the formula is not an element"),
        ("Ca(OH", "an opening bracket in the formula has no closing bracket"),
        ("CaOH)2", "a closing bracket in the formula has no opening bracket"),
        ("Ca(OH]2", "a closing bracket in the formula has no opening bracket"),
        ("Fe2+", "the formula cannot be read at '+'"),
        ("Ba1-xKx", "the formula cannot be read at '-xKx'"),
        ("water", "the formula cannot be read at 'water'"),
        ("()", "the number of atoms in the formula is zero or not finite"),
        ("Fe0", "the number of atoms in the formula is zero or not finite"),
        ("1e999Fe", "the number of atoms in the formula is zero or not finite"),
        (" ", "no formula"),
        (None, "no formula"),
    ],
)
def test_what_is_no_formula(text: str | None, why: str) -> None:
    with pytest.raises(DataError, match=r"^line 7: ") as caught:
        formulas.composition(text, "line 7")
    assert reason(caught.value) == why


def test_one_name_and_fingerprint_for_one_composition() -> None:
    for same in (["Fe2O3", "Fe4O6", "FeO1.5", "Fe0.4O0.6"], ["Fe7Ni3", "Fe0.7Ni0.3"], ["O", "O2"]):
        found = [formulas.composition(text, "") for text in same]
        assert len({formula(c.numbers, c.amounts) for c in found}) == 1
        assert len({fingerprint(c) for c in found}) == 1
    assert formula(np.array([26, 28]), np.array([0.333, 0.667])) == "Fe333Ni667"
    steel = formulas.composition("Fe0.953421C0.000953Mn0.000521", "")
    assert formula(steel.numbers, steel.amounts) == "Mn0.000546Fe0.998456C0.000998"
    assert sum(reduced(steel.numbers, steel.amounts).values()) == pytest.approx(1)


def test_a_formula_shares_the_formula_of_a_crystal_and_no_prototype(crystals: list[Crystal]) -> None:
    for crystal in crystals[:10]:
        name = formula(crystal.numbers)
        bare = formulas.composition(name, "")
        assert formula(bare.numbers, bare.amounts) == name
        assert fingerprint(bare) == fingerprint(crystal) >> PROTOTYPE_BITS << PROTOTYPE_BITS
        np.testing.assert_array_equal(list(reduced(bare.numbers, bare.amounts)), np.unique(crystal.numbers))


def test_a_table_of_formulas(tmp_path: Path) -> None:
    path = tmp_path / "few.csv.gz"
    path.write_bytes(gzip.compress(b"id,formula\na,NaCl\n,LiF\nc,Qq\n"))
    assert formulas.is_table(path)
    found = dict(formulas.attempts(path))
    assert list(found) == ["a", "few-2", "c"]
    assert str(found["c"]).startswith(f"{path}, line 4: 'Qq' in the formula")
    path.write_bytes(gzip.compress(b"formula\nNaCl\nLiF\n"))
    assert [name for name, _ in formulas.attempts(path)] == ["few-1", "few-2"]
    path.write_bytes(gzip.compress(b"id,formula\na,NaCl\na,LiF\n"))
    with pytest.raises(DataError, match="line 3 and line 2 have the same id 'a'"):
        list(formulas.attempts(path))
    assert not any(formulas.is_table(tmp_path / name) for name in ("a.cif", "a.json", "a.jsonl", "POSCAR"))
