"""The potential CHGNet: energies as its authors' package gives them, and its levels."""

from pathlib import Path

import numpy as np
import pytest

from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.potentials.chgnet import CHGNet

EDGE = 5.43  # Å
SILICON = Crystal(
    EDGE / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]),
    np.array([[0.0, 0, 0], [0.25, 0.25, 0.25]]),
    np.array([14, 14]),
)


@pytest.fixture(scope="module")
def chgnet(tmp_path_factory: pytest.TempPathFactory) -> CHGNet:
    return CHGNet(tmp_path_factory.mktemp("cache"), weights="0.3.0")


def test_the_energy_of_silicon_is_that_of_the_package(chgnet: CHGNet) -> None:
    """CHGNet.load().predict_structure of chgnet 0.4.2 gives -5.3121796 eV/atom and -1.6985 GPa."""
    found = chgnet.sites(SILICON)
    assert found.energy == pytest.approx(-5.3121796, abs=1e-5)
    assert [level.shape for level in found.levels] == [(2, 64)] * 5 == [(2, width) for width in chgnet.widths]
    at_rest = chgnet.mechanics(SILICON)
    assert [at_rest.energy, chgnet.energy(SILICON)] == pytest.approx([found.energy] * 2)
    assert np.abs(at_rest.forces).max() < 1e-5
    assert at_rest.stress == pytest.approx(-1.69855 * np.eye(3), abs=1e-3)
    moved = SILICON._replace(frac=SILICON.frac + np.array([[0.0, 0, 0], [0.01, 0, 0]]))
    forces = chgnet.forces(moved)
    assert forces.sum(0) == pytest.approx(np.zeros(3), abs=1e-4)
    assert forces[1] @ (0.01 * SILICON.lattice[0]) < -1e-4  # back to where it was


def test_other_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights=9 .*use one of 0.2.0, 0.3.0, r2scan"):
        CHGNet(tmp_path, weights="9")
