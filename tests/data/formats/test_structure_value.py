"""A structure comes out the same, however a table holds it; what holds none gives one clear error."""

import json
import warnings
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Element, Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp.inputs import Poscar

from tltool.data.formats import structure_value
from tltool.data.record import Crystal
from tltool.errors import DataError

LATTICE = Lattice.from_parameters(4.0, 5.0, 6.0, 80.0, 95.0, 100.0)
FRAC = [[0.0, 0.0, 0.0], [0.5, 0.25, 0.75], [0.1, 0.6, 0.3]]
MADE = Structure(LATTICE, ["Na", "Cl", "Cl"], FRAC)
JARVIS = {"lattice_mat": LATTICE.matrix.tolist(), "coords": FRAC, "elements": ["Na", "Cl ", "Cl"], "cartesian": False}


def in_full(structure: Structure) -> str:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)  # between pymatgen and spglib
        return str(CifWriter(structure, significant_figures=12))


VALUES: dict[str, Any] = {
    "pymatgen dict": MADE.as_dict(),
    "pymatgen JSON": f" {json.dumps(MADE.as_dict())}\n",
    "CIF": in_full(MADE),
    "CIF after remarks": f"# a remark\n\n{in_full(MADE)}",
    "POSCAR": Poscar(MADE).get_str(significant_figures=14),
    "JARVIS dict": JARVIS,
    "JARVIS JSON": json.dumps(JARVIS),
    "JARVIS, cartesian": JARVIS | {"coords": LATTICE.get_cartesian_coords(FRAC).tolist(), "cartesian": True},
}


def assert_is_made(found: Crystal) -> None:
    assert found.numbers.tolist() == [11, 17, 17]
    # CIF fixes the cell but not how it is turned.
    np.testing.assert_allclose(found.lattice @ found.lattice.T, LATTICE.matrix @ LATTICE.matrix.T, atol=1e-6)
    np.testing.assert_allclose(found.frac % 1.0, FRAC, atol=1e-6)


@pytest.mark.parametrize("kind", VALUES)
def test_every_kind_of_value(kind: str) -> None:
    assert_is_made(structure_value.crystal(VALUES[kind], "line 3"))


@pytest.mark.parametrize(
    "species",
    [["Na", "Cl", "Cl"], ["Na+", "Cl-", "Cl1-"], ["Na1+", " Cl", "Cl0.5-"], [11, 17, 17], np.array([11, 17, 17])],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_three_columns(species: Any, as_text: bool) -> None:
    values = [LATTICE.matrix.tolist(), list(map(str, species)) if as_text and species[0] == 11 else species, FRAC]
    if as_text and isinstance(species[0], str):
        values = [json.dumps(value) for value in values]
    elif as_text:
        values = [json.dumps(values[0]), json.dumps([int(z) for z in species]), json.dumps(FRAC)]
    assert_is_made(structure_value.from_columns(*values, "line 3"))


def test_all_elements_are_known_by_symbol() -> None:
    symbols = [Element.from_Z(z).symbol for z in range(1, 119)]
    frac = np.random.default_rng(0).random((118, 3))
    found = structure_value.from_columns(30 * np.eye(3), symbols, frac, "line 3")
    assert found.numbers.tolist() == list(range(1, 119))
    assert structure_value.from_columns(np.eye(3), ["D"], [[0, 0, 0]], "line 3").numbers.tolist() == [1]


ALLOY = Structure(LATTICE, [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
BAD: dict[str, tuple[Any, str]] = {
    "a number": (7.0, "is not a structure"),
    "a list": ([1, 2], "is not a structure"),
    "a file name": ("NaCl.cif", r"is one line.*data=folder"),
    "torn JSON": ('{"lattice": ', r"cannot be read as JSON"),
    "a JSON list": ("[1, 2]\n[3]", "is not a CIF"),
    "another dict": ({"a": 1}, "cannot be read as a pymatgen structure"),
    "partly occupied": (ALLOY.as_dict(), "has partly occupied sites"),
    "partly occupied CIF": (in_full(ALLOY), "has partly occupied sites"),
    "torn CIF": (in_full(MADE)[:300], "contains no atom sites"),
    "two blocks": (in_full(MADE) + in_full(MADE).replace("NaCl2", "again"), "contains several structures"),
    "prose": ("one\ntwo\nthree", r"is not a CIF \(it has no data_ block\) and not a POSCAR"),
    "POSCAR without symbols": ("a\n1\n4 0 0\n0 4 0\n0 0 4\n1\ndirect\n0 0 0\n", "is not a CIF.*and not a POSCAR"),
    "dummy species": (JARVIS | {"elements": ["Na", "Xx", "Cl"]}, "is not a real element"),
    "JARVIS without cell": (JARVIS | {"lattice_mat": np.zeros((3, 3)).tolist()}, "the volume of the cell is zero"),
    "JARVIS, cartesian, without cell": (
        JARVIS | {"lattice_mat": np.zeros((3, 3)).tolist(), "cartesian": True},
        "cannot be read as a JARVIS structure",
    ),
    "JARVIS without elements": ({"lattice_mat": np.eye(3).tolist(), "coords": FRAC}, "cannot be read as a JARVIS"),
    "a position too few": (JARVIS | {"coords": FRAC[:2]}, "one position per site"),
    "ragged lattice": (
        JARVIS | {"lattice_mat": [[1, 0], [0, 1, 0]]},
        "lattice, species or positions have the wrong form",
    ),
    "species that are no list": (JARVIS | {"elements": None}, "lattice, species or positions have the wrong form"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_structure_is_an_error_that_says_where(kind: str) -> None:
    value, words = BAD[kind]
    with pytest.raises(DataError, match=f"line 3: .*{words}"):
        structure_value.crystal(value, "line 3")
