import pytest
import torch
from support import FULL, QUOTIENT

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model.layers.composition import Composition, of_elements
from tltool.model.scaler import composition


def graph_of(crystals: list[Crystal], graph_settings: crystal_graphs.GraphSettings = QUOTIENT) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))


def test_every_element_hears_all(crystals: list[Crystal]) -> None:
    graph = graph_of(crystals)
    elements = of_elements(graph)
    assert elements is of_elements(graph)
    count = elements.first_node.diff()
    assert count.tolist() == [len(set(c.numbers.tolist())) for c in crystals]
    assert elements.first_edge.diff().tolist() == torch.repeat_interleave(count, count).tolist()
    assert torch.equal(elements.crystal[elements.receiver], elements.crystal[elements.neighbour])
    torch.testing.assert_close(elements.n_sites(), torch.ones(len(crystals)))
    torch.testing.assert_close(composition(elements), composition(graph))
    pairs = elements.receiver * elements.n_nodes + elements.neighbour
    assert len(pairs.unique()) == len(pairs)


@pytest.mark.usefixtures("double")
def test_only_the_composition_counts(crystals: list[Crystal]) -> None:
    torch.manual_seed(0)
    model = Composition(8, 2, "descriptors").double()
    vectors = model(graph_of(crystals))
    torch.testing.assert_close(model(graph_of(crystals, FULL)), vectors, atol=1e-12, rtol=1e-12)
    squeezed = [c._replace(lattice=c.lattice * 0.7, frac=c.frac * 0.5) for c in crystals]
    torch.testing.assert_close(model(graph_of(squeezed)), vectors, atol=1e-12, rtol=1e-12)
    assert float(vectors.detach().std(0).min()) > 1e-3
