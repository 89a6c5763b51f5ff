"""Facts that need no network: what they are on a crystal one can work out by hand, and the laws they keep."""

import numpy as np
import pytest
import torch
from pymatgen.core import Element, Lattice
from support import FULL, QUOTIENT, doubled, of_space_group, shuffled

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.record import Crystal
from tltool.elements import PROPERTIES, properties
from tltool.errors import ConfigError
from tltool.model.readouts import descriptors

ALL = (descriptors.of_elements, descriptors.of_geometry)


def graph_of(crystals: list[Crystal], graph_settings: GraphSettings = QUOTIENT) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))


def rock_salt(edge: float) -> Crystal:
    cell = of_space_group("Fm-3m", Lattice.cubic(edge), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return Crystal(cell.lattice.matrix, cell.frac_coords, np.array(cell.atomic_numbers))


def test_of_rock_salt() -> None:
    (found,) = descriptors.of_elements(graph_of([rock_salt(4.2)]))
    mg, o = Element("Mg"), Element("O")
    n = len(PROPERTIES)
    of = {name: (float(found[k]), float(found[n + k])) for k, name in enumerate(PROPERTIES)}
    assert of["electronegativity"] == pytest.approx(((mg.X + o.X) / 2, abs(mg.X - o.X) / 2), abs=1e-4)
    assert of["group"] == pytest.approx((9.0, 7.0))
    masses = np.log([float(mg.atomic_mass), float(o.atomic_mass)])
    assert of["mass"] == pytest.approx((masses.mean(), masses.std()), abs=1e-4)
    assert float(found[-1]) == pytest.approx(masses.min(), abs=1e-4)
    (found,) = descriptors.of_geometry(graph_of([rock_salt(4.2)]))
    volume = 4.2**3 / 8
    density = (float(mg.atomic_mass) + float(o.atomic_mass)) / 2 * 1.66053907 / volume
    # Six neighbours at half the edge, six of the twelve at half the diagonal of a face: 12 in all.
    mean = (6 * 2.1 + 6 * 2.1 * 2**0.5) / 12
    expected = [volume, np.log(volume), density, np.log(density), 2.1, mean, 2.1, mean]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.usefixtures("double")
def test_every_site_counts_once(crystals: list[Crystal]) -> None:
    for of in ALL:
        before = of(graph_of(crystals))
        assert bool(torch.isfinite(before).all())
        assert float(before.std(0).min()) > 1e-3
        torch.testing.assert_close(of(graph_of(crystals, FULL)), before, atol=1e-9, rtol=1e-9)
        for change in (doubled, lambda c: shuffled(c, 5)):
            torch.testing.assert_close(of(graph_of([change(c) for c in crystals])), before, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("double")
def test_a_batch_equals_its_members(crystals: list[Crystal]) -> None:
    for of in ALL:
        alone = torch.cat([of(graph_of([crystal])) for crystal in crystals[:12]])
        torch.testing.assert_close(of(graph_of(crystals[:12])), alone, atol=1e-12, rtol=1e-12)


def test_a_site_without_a_neighbour_has_its_share_of_the_volume() -> None:
    lonely = rock_salt(60.0)
    found = descriptors.of_geometry(graph_of([lonely, rock_salt(4.2)]))
    np.testing.assert_allclose(found[0, 4:], 60.0 / 2, rtol=1e-5)
    assert bool(torch.isfinite(found).all())


def test_what_has_no_volume_is_refused() -> None:
    graph = graph_of([rock_salt(4.2)])
    object.__setattr__(graph, "volume", None)
    with pytest.raises(ConfigError, match="needs structures"):
        descriptors.of_geometry(graph)


def test_the_table_has_no_gap() -> None:
    table = properties()
    assert table.shape == (119, len(PROPERTIES))
    assert np.isfinite(table).all()
    assert table[8, PROPERTIES.index("electronegativity")] == pytest.approx(3.44)
