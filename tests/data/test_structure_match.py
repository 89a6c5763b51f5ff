"""What counts as the same structure when sites are compared."""

import numpy as np
from pymatgen.core import Lattice, Structure

from tltool.data import structure_match
from tltool.data.record import Crystal, from_structure


def cubic(name: str, a: float, species: list[str], second: float) -> Crystal:
    frac = [[0, 0, 0], [second] * 3]
    return from_structure(Structure.from_spacegroup(name, Lattice.cubic(a), species, frac), "test")


NACL = cubic("Fm-3m", 5.64, ["Na", "Cl"], 0.5)
PRIMITIVE = Crystal(2.82 * (np.ones((3, 3)) - np.eye(3)), np.array([[0.0, 0, 0], [0.5] * 3]), np.array([11, 17]))
LARGER = NACL._replace(lattice=NACL.lattice * 1.06 ** (1 / 3))
KCL = cubic("Fm-3m", 6.29, ["K", "Cl"], 0.5)
CAESIUM_CHLORIDE_TYPE = cubic("Pm-3m", 3.5, ["Na", "Cl"], 0.5)


def test_cell_and_volume_do_not_matter_element_and_structure_do() -> None:
    assert structure_match.confirm(NACL, [PRIMITIVE])
    assert structure_match.confirm(PRIMITIVE, [CAESIUM_CHLORIDE_TYPE, LARGER])
    assert not structure_match.confirm(NACL, [KCL, CAESIUM_CHLORIDE_TYPE])
    assert not structure_match.confirm(NACL, [])


def test_pairs_are_compared_until_one_is_the_same() -> None:
    rows, source_rows = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0])
    same = structure_match.compared([NACL, KCL], [CAESIUM_CHLORIDE_TYPE, LARGER, PRIMITIVE], rows, source_rows)
    assert same.tolist() == [False, True, False, False]
