from dataclasses import replace

import pytest
import torch
from support import QUOTIENT, fresh_model

from tltool.crystal_graph import Graph, Levels
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ConfigError

PUBLISHED = ("readout=set2set", "encoder.elements=learned")


@pytest.fixture
def graph(crystals: list[Crystal]) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals[:8], QUOTIENT)).select(torch.arange(8))


def test_published_sizes() -> None:
    model = fresh_model(encoder="megnet", overrides=PUBLISHED)
    ours = sum(p.numel() for part in (model.encoder, model.readout) for p in part.parameters())
    # The published network has 167,761 parameters, 3,649 of them in the three layers after the readout, vectors for 95
    # elements instead of 119, and a state that begins as two numbers instead of one.
    assert ours == 167_761 - 3_649 + (119 - 95) * 16 - 64


def test_edges_and_state_of_every_level(graph: Graph) -> None:
    model = fresh_model(encoder="megnet")
    levels = model.encoder(graph)
    assert isinstance(levels, Levels)
    assert [len(part) for part in (levels.sites, levels.edges, levels.state)] == [4, 4, 4]
    assert {tuple(x.shape) for x in levels.edges} == {(len(graph.neighbour), 32)}
    assert {tuple(x.shape) for x in levels.state} == {(8, 32)}
    assert model.embed(graph).shape == (8, 96)


def test_a_state_that_is_given_counts(graph: Graph) -> None:
    model = fresh_model(encoder="megnet", overrides=("encoder.state_inputs=2",)).eval()
    one = torch.tensor([1.0, 0.0]).expand(8, 2)
    other = one.clone()
    other[3] = torch.tensor([0.0, 1.0])
    first, second = (model(replace(graph, state=state, cache={})) for state in (one, other))
    changed = (first - second)[:, 0].abs() > 1e-6
    assert changed.tolist() == [row == 3 for row in range(8)]
    assert torch.equal(replace(graph, state=one).to("cpu").state, one)
    with pytest.raises(ConfigError, match="the crystals have 0;"):
        model(graph)
    with pytest.raises(ConfigError, match="the crystals have 1;"):
        model(replace(graph, state=one[:, :1]))
