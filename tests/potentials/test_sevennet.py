"""The potential SevenNet: energies as its authors' package gives them, and its levels."""

from pathlib import Path

import numpy as np
import pytest

from tltool.data.record import Crystal
from tltool.errors import ConfigError

pytest.importorskip("sevenn")

from tltool.potentials.sevennet import SevenNet

EDGE = 5.43  # Å
SILICON = Crystal(
    EDGE / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]),
    np.array([[0.0, 0, 0], [0.25, 0.25, 0.25]]),
    np.array([14, 14]),
)
MOVED = SILICON._replace(frac=SILICON.frac + 0.05 * np.linalg.inv(SILICON.lattice)[0] * np.array([[0.0], [1.0]]))
"""The second site is 0.05 Å further along x."""


@pytest.fixture(scope="module")
def sevennet(tmp_path_factory: pytest.TempPathFactory) -> SevenNet:
    return SevenNet(tmp_path_factory.mktemp("cache"), weights="0__11Jul2024")


def test_silicon_is_that_of_the_package(sevennet: SevenNet) -> None:
    """SevenNetCalculator("7net-0") of sevenn 0.13.0: -5.4008303 eV/atom and -0.0119431 eV/Å3; moved 0.4601989 eV/Å."""
    found = sevennet.sites(SILICON)
    assert found.energy == pytest.approx(-5.4008303, abs=1e-5)
    assert [level.shape for level in found.levels] == [(2, 128)] * 6 == [(2, width) for width in sevennet.widths]
    at_rest = sevennet.mechanics(SILICON)
    assert [at_rest.energy, sevennet.energy(SILICON)] == pytest.approx([found.energy] * 2)
    assert at_rest.stress == pytest.approx(-0.0119431 * 160.21766 * np.eye(3), abs=1e-3)
    moved = sevennet.mechanics(MOVED)
    assert moved.energy == pytest.approx(-5.3950806, abs=1e-5)
    assert moved.forces == pytest.approx(np.array([[0.4601989, 0, 0], [-0.4601989, 0, 0]]), abs=1e-4)
    assert sevennet.forces(MOVED) == pytest.approx(moved.forces)


def test_the_stress_is_the_slope_of_the_energy_in_the_strain(sevennet: SevenNet) -> None:
    lattice = np.array([[4.1, 0.2, 0.0], [0.0, 4.4, 0.3], [0.1, 0.0, 4.8]])
    salt = Crystal(lattice, np.array([[0.0, 0, 0], [0.5, 0.5, 0.4]]), np.array([55, 17]))
    stress, volume = sevennet.mechanics(salt).stress, abs(np.linalg.det(lattice))
    for i, j in ((0, 0), (2, 2), (0, 1), (1, 2), (2, 0)):
        energies = []
        for sign in (1.0, -1.0):
            strain = np.zeros((3, 3))
            strain[i, j] += 0.5 * sign * 4e-3
            strain[j, i] += 0.5 * sign * 4e-3
            energies.append(2 * sevennet.energy(salt._replace(lattice=lattice @ (np.eye(3) + strain))))
        slope = (energies[0] - energies[1]) / (8e-3 * volume) * 160.21766
        assert stress[i, j] == pytest.approx(slope, abs=0.02), (i, j)


def test_other_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights=9 .*use one of 0__11Jul2024, .*l3i5"):
        SevenNet(tmp_path, weights="9")
