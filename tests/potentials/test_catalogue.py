"""Laws of every potential in configs/potential: features of a crystal, and crystals that it cannot do."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support import rotated, shuffled

from tltool.data.record import Crystal
from tltool.potentials import catalogue
from tltool.potentials.potential import Potential

HERE = [name for name in catalogue.names() if find_spec(catalogue.about(name)["package"])]
SALT = Crystal(4.2 * np.eye(3), np.array([[0.0, 0, 0], [0.5, 0.5, 0.4]]), np.array([55, 17]))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=HERE)
def potential(request: pytest.FixtureRequest, cache: Path) -> Potential:
    return catalogue.opened(request.param, cache)


def test_features_do_not_depend_on_how_the_crystal_is_written(potential: Potential) -> None:
    first = potential.sites(SALT)
    assert [level.shape for level in first.levels] == [(2, width) for width in potential.widths]
    for other in (rotated(SALT, 1), shuffled(SALT, 2)):
        found = potential.sites(other)
        assert found.energy == pytest.approx(first.energy, abs=1e-4)
        for one, two in zip(first.levels, found.levels, strict=True):
            largest = max(1.0, float(np.abs(one).max()))
            assert np.sort(one, axis=0) == pytest.approx(np.sort(two, axis=0), abs=2e-4 * largest)
    # Level 0 is the element alone.
    wide = potential.sites(SALT._replace(lattice=5.0 * np.eye(3)))
    assert first.levels[0] == pytest.approx(wide.levels[0])
    assert np.abs(first.levels[1] - wide.levels[1]).max() > 1e-3


def test_a_site_alone_has_features_and_a_strange_element_has_none(potential: Potential) -> None:
    alone = Crystal(20 * np.eye(3), np.zeros((1, 3)), np.array([14]))
    assert np.isfinite(potential.sites(alone).energy)
    with pytest.raises(ValueError, match="element 100 is not among"):
        potential.sites(alone._replace(numbers=np.array([100])))
    with pytest.raises(ValueError, match="no structure"):
        potential.sites(alone._replace(amounts=np.ones(1)))


def test_each_has_weights_of_its_own(cache: Path) -> None:
    assert len({catalogue.opened(name, cache).digest for name in HERE}) == len(HERE) > 0
