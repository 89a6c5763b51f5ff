"""What counts as the same structure when sites are compared."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice
from support import doubled, of_space_group, other_lattice, rotated, shuffled

from tltool.data.overlap import structure_match
from tltool.data.overlap.fingerprint import fingerprint
from tltool.data.overlap.mean_distances import difference, mean_distances
from tltool.data.record import Crystal, from_structure


def cubic(name: str, a: float, species: list[str], second: float) -> Crystal:
    frac = [[0, 0, 0], [second] * 3]
    return from_structure(of_space_group(name, Lattice.cubic(a), species, frac), "test")


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


def compared(
    targets: list[Crystal], sources: list[Crystal], pairs: list[tuple[int, int]], **change: Any
) -> structure_match.Compared:
    rows, source_rows = (np.array(column) for column in zip(*pairs, strict=True))
    keys = {"alike": np.zeros(len(pairs), dtype=bool), "most": 100} | change
    return structure_match.compared(targets, sources, rows, source_rows, keys["alike"], keys["most"])


def test_pairs_are_compared_until_one_is_the_same() -> None:
    sources, pairs = [CAESIUM_CHLORIDE_TYPE, LARGER, PRIMITIVE], [(0, 0), (0, 1), (0, 2), (1, 0)]
    alike = np.array([False, True, False, True])
    found = compared([NACL, KCL], sources, pairs, alike=alike)
    assert found.same.tolist() == [False, True, False, False]
    assert found.known[[0, 1, 3]].all()
    # The pairs of one prototype come first; what is over the limit is not known, and what is plainly other is.
    few = compared([NACL, KCL], sources, pairs, alike=np.array([False, False, True, False]), most=0)
    assert not few.same.any()
    assert few.known.tolist() == [True, False, False, True]


def test_large_cells_are_compared_only_with_their_own_prototype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_match, "MOST_SITES", 7)
    assert not compared([NACL], [PRIMITIVE], [(0, 0)]).known.any()
    assert compared([NACL], [PRIMITIVE], [(0, 0)], alike=np.array([True])).same.all()
    assert compared([PRIMITIVE], [PRIMITIVE], [(0, 0)]).same.all()


def moved(crystal: Crystal, by: float, generator: np.random.Generator) -> Crystal:
    """Return ``crystal`` with each site moved by ``by`` Å in a direction of its own."""
    steps = generator.normal(size=crystal.frac.shape)
    steps *= by / np.linalg.norm(steps, axis=1, keepdims=True)
    return crystal._replace(frac=crystal.frac + steps @ np.linalg.inv(crystal.lattice))


@pytest.mark.parametrize(
    ("by", "change"),
    [
        (0.02, np.eye(3)),
        (0.05, np.eye(3)),
        (0.0, np.eye(3) + 0.01 * np.eye(3, k=1)),
        (0.0, np.diag([1.03, 1, 1])),
        (0.05, np.diag([1.03, 1, 1])),
    ],
)
def test_copies_that_were_distorted_a_little_are_found(crystals: list[Crystal], by: float, change: np.ndarray) -> None:
    generator = np.random.default_rng(0)
    copies = [rotated(other_lattice(moved(crystal, by, generator)), 3) for crystal in crystals]
    copies = [copy._replace(lattice=copy.lattice @ change) for copy in copies]
    alike = np.array([fingerprint(a) == fingerprint(b) for a, b in zip(crystals, copies, strict=True)])
    found = compared(copies, crystals, [(k, k) for k in range(len(crystals))], alike=alike)
    assert found.known.all()
    assert found.same.mean() >= 0.95
    assert by == 0.02 or not alike.all(), "the fingerprint alone does not find them"


def test_polymorphs_are_told_apart() -> None:
    fcc = Crystal(1.8 * (np.ones((3, 3)) - np.eye(3)), np.zeros((1, 3)), np.array([29]))
    bcc = Crystal(2.9 * np.eye(3), np.array([[0.0, 0, 0], [0.5] * 3]), np.array([29, 29]))
    hcp = Crystal(
        np.array([[2.5, 0, 0], [-1.25, 2.165, 0], [0, 0, 4.08]]),
        np.array([[0, 0, 0], [1 / 3, 2 / 3, 0.5]]),
        np.array([29, 29]),
    )
    assert not compared([fcc, bcc, hcp], [fcc, bcc, hcp], [(0, 1), (0, 2), (1, 2), (2, 0)]).same.any()
    assert compared([fcc], [doubled(fcc)], [(0, 0)]).same.all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.1))
def test_mean_distances_change_by_no_more_than_twice_what_sites_move(seed: int, by: float) -> None:
    generator = np.random.default_rng(seed)
    crystal = Crystal(
        5.0 * np.eye(3) + generator.random((3, 3)), generator.random((6, 3)), np.array([3, 3, 8, 8, 8, 9])
    )
    mine = mean_distances(crystal)
    assert mine.shape == (3, 12)
    scale = (15.0 * 6 / abs(np.linalg.det(crystal.lattice))) ** (1 / 3)
    assert difference(mine, mean_distances(moved(crystal, by / scale, generator))) <= 2 * by + 1e-9
    for same in (rotated(crystal, seed), shuffled(crystal, seed), other_lattice(crystal), doubled(crystal)):
        np.testing.assert_allclose(mean_distances(same), mine, atol=1e-9)


def test_a_cell_with_few_neighbours_in_reach_has_mean_distances_too() -> None:
    needle = Crystal(np.diag([1.0, 1.0, 1e6]), np.zeros((1, 3)), np.array([2]))
    assert np.isfinite(mean_distances(needle)).all()
