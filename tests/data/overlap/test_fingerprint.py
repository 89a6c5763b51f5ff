"""The fingerprint does not depend on how a crystal is written, and tells apart what is not the same prototype."""

from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from support import of_space_group

from tltool.data import store
from tltool.data.dataset import BUNDLED
from tltool.data.overlap.fingerprint import PROTOTYPE_BITS, fingerprint, in_order
from tltool.data.record import Crystal, from_structure

ROWS = 200
NACL = 0x0A82D8DAE54E570E


@pytest.fixture(scope="module")
def known() -> list[Crystal]:
    demo = store.load(BUNDLED / "demo.h5")
    return [demo.crystal(row) for row in range(0, 19 * ROWS, 19)]


def cubic(name: str, a: float, species: list[str], frac: list[list[float]]) -> Crystal:
    return from_structure(of_space_group(name, Lattice.cubic(a), species, frac), "test")


def rock_salt(cation: str, a: float) -> Crystal:
    return cubic("Fm-3m", a, [cation, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def in_cell(crystal: Crystal, change: np.ndarray) -> Crystal:
    """Return ``crystal`` with lattice vectors ``change`` (3, 3) integers times the old ones, sites repeated to fit."""
    size = round(abs(np.linalg.det(change)))
    steps = np.stack(np.meshgrid(*[np.arange(-8, 9)] * 3), -1).reshape(-1, 3) @ np.linalg.inv(change)
    inside = np.unique(np.round(steps % 1, 9) % 1, axis=0)
    assert len(inside) == size
    frac = (crystal.frac @ np.linalg.inv(change) + inside[:, None]).reshape(-1, 3)
    return Crystal(change @ crystal.lattice, frac, np.tile(crystal.numbers, size))


def moved(crystal: Crystal, length: float, generator: np.random.Generator) -> Crystal:
    steps = generator.normal(size=crystal.frac.shape)
    steps *= length / np.linalg.norm(steps, axis=1, keepdims=True)
    return crystal._replace(frac=crystal.frac + steps @ np.linalg.inv(crystal.lattice))


def prototype(crystal: Crystal) -> int:
    return fingerprint(crystal) & (1 << PROTOTYPE_BITS) - 1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, ROWS - 1), st.integers(0, 2**32 - 1))
def test_the_same_however_it_is_written(known: list[Crystal], row: int, seed: int) -> None:
    crystal, generator = known[row], np.random.default_rng(seed)
    change = np.eye(3)
    for _ in range(3):
        i, j = generator.permutation(3)[:2]
        change[i] += generator.integers(-1, 2) * change[j]
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))  # as often as not a mirror image
    order = generator.permutation(len(crystal.numbers))
    scale = generator.uniform(0.97, 1.03)
    frac = crystal.frac @ np.linalg.inv(change) + generator.random(3)
    again = Crystal(scale * change @ crystal.lattice @ turn, frac[order] % 1, crystal.numbers[order])
    assert fingerprint(again) == fingerprint(crystal)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, ROWS - 1), st.integers(0, 2))
def test_a_supercell_is_the_same(known: list[Crystal], row: int, axis: int) -> None:
    change = np.eye(3)
    change[axis, axis] = 2
    assert fingerprint(in_cell(known[row], change)) == fingerprint(known[row])


@pytest.mark.parametrize(("length", "share"), [(0.01, 0.985), (0.03, 0.95)])
def test_most_survive_small_moves(known: list[Crystal], length: float, share: float) -> None:
    generator = np.random.default_rng(0)
    after = in_order(moved(crystal, length, generator) for crystal in known)
    assert (after == in_order(known)).mean() >= share


def test_primitive_and_conventional_cell_and_a_change_of_volume() -> None:
    conventional = rock_salt("Na", 5.64)
    primitive = from_structure(
        Structure(conventional.lattice, conventional.numbers.tolist(), conventional.frac).get_primitive_structure(), "p"
    )
    assert len(primitive.numbers) == 2
    larger = conventional._replace(lattice=conventional.lattice * 1.06 ** (1 / 3))
    assert fingerprint(primitive) == fingerprint(conventional) == fingerprint(larger)


def test_another_element_has_the_same_prototype_and_another_formula() -> None:
    first, second = rock_salt("Na", 5.64), rock_salt("K", 6.29)
    assert fingerprint(first) >> PROTOTYPE_BITS != fingerprint(second) >> PROTOTYPE_BITS
    assert fingerprint(first) != fingerprint(second)


def test_rock_salt_caesium_chloride_and_zinc_blende_differ_in_the_prototype_alone() -> None:
    found = [
        rock_salt("Cs", 7.0),
        cubic("Pm-3m", 4.12, ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        cubic("F-43m", 7.5, ["Cs", "Cl"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    ]
    assert len({fingerprint(crystal) >> PROTOTYPE_BITS for crystal in found}) == 1
    assert len({prototype(crystal) for crystal in found}) == 3


def half_heusler(*places: float) -> Crystal:
    return cubic("F-43m", 5.9, ["Ti", "Ni", "Sn"], [[x, x, x] for x in places])


def test_which_element_is_in_the_middle_counts_and_the_letters_do_not() -> None:
    same = [half_heusler(0, 0.25, 0.5), half_heusler(0.25, 0.5, 0.75), half_heusler(0.5, 0.25, 0)]
    other = [half_heusler(0.25, 0, 0.5), half_heusler(0, 0.5, 0.25)]
    assert len({fingerprint(crystal) for crystal in same}) == 1
    assert len({fingerprint(crystal) for crystal in [*same, *other]}) == 3


def test_quartz_of_either_hand_is_one() -> None:
    cell = Lattice.hexagonal(4.913, 5.405)
    hands = [("P3_121", 1 / 3, [0.4135, 0.2669, 0.1191 + 1 / 3]), ("P3_221", 2 / 3, [0.4135, 0.2669, 0.7858 - 1 / 3])]
    left, right = (
        from_structure(of_space_group(name, cell, ["Si", "O"], [[0.4697, 0, z], oxygen]), name)
        for name, z, oxygen in hands
    )
    assert len(left.numbers) == len(right.numbers) == 9
    mirrored = left._replace(lattice=left.lattice @ np.diag([1, 1, -1.0]))
    assert fingerprint(left) == fingerprint(mirrored) == fingerprint(right)


def test_without_symmetry_search_there_is_still_the_formula(capfd: pytest.CaptureFixture[str]) -> None:
    broken = Crystal(4 * np.eye(3), np.zeros((2, 3)), np.array([11, 17]))
    assert prototype(broken) == 0
    assert fingerprint(broken) >> PROTOTYPE_BITS == fingerprint(rock_salt("Na", 5.64)) >> PROTOTYPE_BITS
    assert capfd.readouterr() == ("", "")


def test_a_panic_leaves_the_formula_and_an_interruption_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    for error in (PanicException, KeyboardInterrupt):
        monkeypatch.setattr("tltool.data.overlap.fingerprint._prototype", Mock(side_effect=error))
        if error is PanicException:
            assert prototype(rock_salt("Na", 5.64)) == 0
        else:
            with pytest.raises(KeyboardInterrupt):
                fingerprint(rock_salt("Na", 5.64))


def test_fingerprints_are_part_of_the_file_format() -> None:
    assert fingerprint(rock_salt("Na", 5.64)) == NACL, "raise RECIPE: indexes in old models no longer match"
