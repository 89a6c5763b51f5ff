"""The potential CHGNet: energies as its authors' package gives them, levels, and crystals that it cannot do."""

from pathlib import Path

import numpy as np
import pytest
from support import rotated, shuffled

from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.potentials import catalogue
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


def test_features_do_not_depend_on_how_the_crystal_is_written(chgnet: CHGNet) -> None:
    salt = Crystal(4.2 * np.eye(3), np.array([[0.0, 0, 0], [0.5, 0.5, 0.4]]), np.array([55, 17]))
    first = chgnet.sites(salt)
    for other in (rotated(salt, 1), shuffled(salt, 2)):
        found = chgnet.sites(other)
        for one, two in zip(first.levels, found.levels, strict=True):
            assert np.sort(one, axis=0) == pytest.approx(np.sort(two, axis=0), abs=2e-4)
    # Level 0 is the element alone.
    assert first.levels[0] == pytest.approx(chgnet.sites(salt._replace(lattice=5.0 * np.eye(3))).levels[0])
    assert np.abs(first.levels[1] - chgnet.sites(salt._replace(lattice=5.0 * np.eye(3))).levels[1]).max() > 1e-3


def test_a_site_alone_has_features_and_a_strange_element_has_none(chgnet: CHGNet) -> None:
    alone = Crystal(20 * np.eye(3), np.zeros((1, 3)), np.array([14]))
    assert np.isfinite(chgnet.sites(alone).energy)
    with pytest.raises(ValueError, match="element 100 is not among"):
        chgnet.sites(alone._replace(numbers=np.array([100])))
    with pytest.raises(ValueError, match="no structure"):
        chgnet.sites(alone._replace(amounts=np.ones(1)))


def test_every_yaml_of_it_opens_and_other_weights_are_named(tmp_path: Path) -> None:
    digests = {catalogue.opened(name, tmp_path).digest for name in ("chgnet", "chgnet_r2scan")}
    assert len(digests) == 2
    with pytest.raises(ConfigError, match=r"weights=9 .*use one of 0.2.0, 0.3.0, r2scan"):
        CHGNet(tmp_path, weights="9")
