"""Bulk modulus, phonons and distance from equilibrium, against potentials of which they are known."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_potential import Tiny

from tltool.data.record import Crystal, Floats, cell_volume
from tltool.model.readouts.potential_features import PHYSICS
from tltool.potentials import physics
from tltool.potentials.equation_of_state import elastic
from tltool.potentials.potential import Mechanics
from tltool.potentials.zone_maximum import repeats, zone_maximum

TO_GPA = 160.21766
SPRING = 2.0  # eV/Å2
ALUMINIUM = 26.9815385  # u


def cubic(edge: float, sites: int = 1) -> Crystal:
    frac = np.zeros((sites, 3))
    frac[:, 0] = np.arange(sites) / sites
    return Crystal(edge * np.eye(3), frac, np.full(sites, 13))


class Springs(Tiny):
    """Springs of no length between sites of a simple cubic crystal and their nearest neighbours, along the bonds."""

    def forces(self, crystal: Crystal, /) -> Floats:
        cell, found = crystal.lattice, np.zeros((len(crystal.numbers), 3))
        places = crystal.frac @ cell
        images = np.array(list(product((-1, 0, 1), repeat=3))) @ cell
        for i, here in enumerate(places):
            bonds = (places[:, None] + images - here).reshape(-1, 3)
            length = np.linalg.norm(bonds, axis=1)
            near = (length > 0.5) & (length < 1.2 * 3.0)
            way = np.round(bonds[near] / length[near][:, None])
            found[i] = (SPRING * ((bonds[near] * way).sum(1) - 3.0)[:, None] * way).sum(0)
        return found

    def mechanics(self, crystal: Crystal, /) -> Mechanics:
        return Mechanics(self.energy(crystal), self.forces(crystal) + 0.3, 2.0 * np.eye(3))


@given(st.floats(-0.04, 0.04), st.floats(0.5, 5.0))
def test_bulk_modulus_and_volume_are_those_of_the_energy(strain: float, stiffness: float) -> None:
    """With e(V) = k (V - 20)2 per atom it is V e'' = 40 k at 20 Å3, whatever volume is given."""
    crystal = cubic(np.cbrt(20.0 * (1 + strain)))
    found = elastic(Tiny(Path(), stiffness=stiffness), crystal)
    assert found.at_minimum
    assert found.volume == pytest.approx(20.0, rel=1e-3)
    assert found.bulk_modulus == pytest.approx(40.0 * stiffness * TO_GPA, rel=0.02)


def test_without_a_minimum_it_is_that_of_the_given_volume() -> None:
    found = elastic(Tiny(Path(), stiffness=1.0), cubic(np.cbrt(30.0)))
    assert not found.at_minimum
    assert found.volume == pytest.approx(30.0)
    assert found.bulk_modulus == pytest.approx(30.0 * 2.0 * TO_GPA, rel=0.02)


def test_the_largest_frequency_is_that_of_the_chain() -> None:
    """Springs along the edges of a cube: the square of the frequency is 4 K / m at the zone boundary, 0 at Gamma."""
    springs = Springs(Path(), stiffness=1.0)
    wanted = np.sqrt(4 * SPRING / ALUMINIUM * 9.648533e27) / (2 * np.pi) / 2.99792458e10  # 1/cm
    assert zone_maximum(springs, cubic(3.0)) == pytest.approx(wanted, rel=1e-3)
    twice = Crystal(np.diag([6.0, 3.0, 3.0]), np.array([[0.0, 0, 0], [0.5, 0, 0]]), np.array([13, 13]))
    assert zone_maximum(springs, twice) == pytest.approx(wanted, rel=1e-3)


@given(st.lists(st.floats(1.5, 15.0), min_size=3, max_size=3))
def test_a_supercell_is_twice_the_cell_and_six_angstrom(edges: list[float]) -> None:
    times = repeats(np.diag(edges))
    assert all(n >= 2 and n * edge >= 6.0 - 1e-9 for n, edge in zip(times, edges, strict=True))
    assert all(n == 2 or (n - 1) * edge < 6.0 for n, edge in zip(times, edges, strict=True))


def test_rows_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    springs = Springs(Path(), stiffness=1.0)
    crystal = cubic(3.0)
    modulus, volume, force, stress, pressure = physics.row("mechanics", springs, crystal)
    assert modulus == pytest.approx(np.log10(elastic(springs, crystal).bulk_modulus))
    assert volume == pytest.approx(np.log(elastic(springs, crystal).volume / cell_volume(crystal.lattice)))
    assert force == pytest.approx(np.log(0.3 * np.sqrt(3) + 1e-3))
    assert stress == pytest.approx(np.log(2 * np.sqrt(3) + 0.1))
    assert pressure == -2.0
    assert physics.row("phonons", springs, crystal).tolist() == pytest.approx(
        [np.log10(zone_maximum(springs, crystal)), 0.0]
    )
    found = physics.row("phonons", springs, cubic(9.0, sites=physics.MOST_SITES + 1))
    assert np.isnan(found[0])
    assert found[1] == 1.0


def test_words_and_recipes() -> None:
    assert tuple(physics.BLOCKS) == PHYSICS
    assert physics.blocks_of(["elements", "physics"]) == list(physics.BLOCKS)
    assert physics.blocks_of(["phonons", "elastic"]) == ["elastic", "phonons"]
    mode = {"candidates": {"a": {"extra_features": ["strain"]}, "b": {"extra_features": None}}, "level": [1]}
    assert physics.recipes(mode) == ["mechanics"]
    assert physics.recipes({"extra_features": ["physics"]}) == ["mechanics", "phonons"]
    assert physics.recipes({"extra_features": ["elements"]}) == []
    assert {of for of, _, _ in physics.BLOCKS.values()} == set(physics.WIDTHS)
