"""The set model: its parts, what it standardises by, and that neither a cell's size nor its edges enter."""

import pytest
import torch
from support import config, doubled

from tltool import instantiate
from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.model.readouts.atom_set import AtomSet, Layers
from tltool.model.sklearn_head import Standardise

RECIPE = GraphSettings(cutoff=5.0, max_neighbours=12, shells="shared", quotient=True)


def made(**keys) -> AtomSet:
    torch.manual_seed(0)
    return instantiate.call(config("pretrain", "readout=atom_set")["readout"] | keys, 6, 3)


def graph_of(crystals: list[Crystal]) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals, RECIPE)).select(torch.arange(len(crystals)))


@pytest.mark.parametrize("pools", [["mean"], ["set2set"], ["set2set", "mean"]])
@pytest.mark.usefixtures("double")
def test_a_set_has_no_size_and_no_edge(pools: list[str], crystals: list[Crystal]) -> None:
    readout = made(levels=[0], pools=pools)
    both = []
    for some in (crystals[:20], [doubled(c) for c in crystals[:20]]):
        graph = graph_of(some)
        found = readout([torch.eye(6)[graph.number % 6]] * 3, graph)
        alone = tensor_table.table(crystal_graphs.build(some, RECIPE)).without_edges().select(torch.arange(20))
        assert len(alone.neighbour) == len(alone.distance) == 0
        torch.testing.assert_close(readout.of_sites(torch.eye(6)[graph.number % 6], alone), found)
        both.append(found)
    torch.testing.assert_close(*both, atol=1e-9, rtol=1e-9)
    assert both[0].shape == (20, readout.dim)


def test_sizes_and_levels(crystals: list[Crystal]) -> None:
    assert made(levels=[0, 1], widths=[8, 5], pools=["mean", "set2set"], query=3).dim == 5 + 6
    assert made(widths=[8, 5], pools=["set2set"]).dim == 10
    assert made(levels=[0, -1], widths=[]).dim == 12
    assert Layers(7, widths=[], dropout=0.0).dim == 7
    graph = graph_of(crystals[:3])
    sites = [torch.rand(graph.n_nodes, 6) for _ in range(3)]
    readout = made(levels=[0, 2])
    expected = readout.of_sites(torch.cat([sites[0], sites[2]], dim=1), graph)
    assert torch.equal(readout(sites, graph), expected)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"pools": []}, "use mean, set2set or both"),
        ({"pools": ["max"]}, "use mean, set2set or both"),
        ({"widths": [0]}, "must be 1 or more"),
        ({"levels": [3]}, "use 0 to 2"),
    ],
)
def test_a_wrong_choice_is_named(keys: dict, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        made(**keys)


def test_standardising_counts_rows_by_weight() -> None:
    rows, counts = torch.rand(5, 3), torch.tensor([1, 4, 2, 1, 3])
    weighted, plain = Standardise(3), Standardise(3)
    weighted.fit(rows, counts / 10)
    plain.fit(rows.repeat_interleave(counts, dim=0))
    torch.testing.assert_close(weighted(rows), plain(rows))
