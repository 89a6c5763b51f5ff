from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import FULL, QUOTIENT, fresh_model

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal


@given(st.lists(st.integers(0, 59), min_size=1, max_size=9), st.booleans())
def test_a_batch_equals_its_members(crystals: list[Crystal], rows: list[int], quotient: bool) -> None:
    table = tensor_table.table(crystal_graphs.build(crystals, QUOTIENT if quotient else FULL))
    together = table.select(torch.tensor(rows))
    node = edge = spot = 0
    for place, row in enumerate(rows):
        alone = table.select(torch.tensor([row]))
        nodes, edges = slice(node, node + alone.n_nodes), slice(edge, edge + len(alone.neighbour))
        assert torch.equal(together.number[nodes], alone.number)
        assert torch.equal(together.multiplicity[nodes], alone.multiplicity)
        assert bool((together.crystal[nodes] == place).all())
        assert torch.equal(together.neighbour[edges] - node, alone.neighbour)
        assert torch.equal(together.receiver[edges] - node, alone.receiver)
        assert torch.equal(together.distance[together.distance_index[edges]], alone.distance[alone.distance_index])
        node, edge, spot = node + alone.n_nodes, edge + len(alone.neighbour), spot + len(alone.distance)
    assert (node, edge, spot) == (together.n_nodes, len(together.neighbour), len(together.distance))


def test_a_batch_is_what_the_table_holds(crystals: list[Crystal]) -> None:
    held = crystal_graphs.build(crystals, QUOTIENT)
    for row in (0, 17, 59):
        alone = tensor_table.table(held).select(torch.tensor([row]))
        nodes = slice(*held.first_node[row : row + 2])
        edges = slice(held.first_edge[nodes.start], held.first_edge[nodes.stop])
        spots = slice(*held.first_distance[row : row + 2])
        degree = np.diff(held.first_edge[nodes.start : nodes.stop + 1])
        expected = {
            "number": held.number[nodes],
            "multiplicity": held.multiplicity[nodes],
            "first_node": [0, len(degree)],
            "first_edge": [0, *np.cumsum(degree)],
            "receiver": np.repeat(np.arange(len(degree)), degree),
            "neighbour": held.neighbour[edges],
            "edge_multiplicity": held.edge_multiplicity[edges],
            "distance_index": held.distance_index[edges],
            "distance": held.distance[spots].astype(np.float32),
        }
        for name, values in expected.items():
            np.testing.assert_array_equal(getattr(alone, name), values, err_msg=name)


def test_crystals_without_an_edge_have_a_line_graph_without_a_node() -> None:
    alone = Crystal(30 * np.eye(3), np.zeros((1, 3)), np.array([2]))
    angles = replace(QUOTIENT, shells="mutual", angles=True)
    batch = tensor_table.table(crystal_graphs.build([alone] * 3, angles)).select(torch.tensor([0, 1, 2]))
    assert batch.line is not None
    assert (batch.n_nodes, batch.line.n_nodes) == (3, 0)
    assert batch.line.first_node.tolist() == [0, 0, 0, 0]


def test_predictions_do_not_depend_on_the_batch(crystals: list[Crystal]) -> None:
    table = tensor_table.table(crystal_graphs.build(crystals, QUOTIENT))
    model = fresh_model().eval()
    together = model(table.select(torch.arange(60)))
    alone = torch.cat([model(table.select(torch.tensor([row]))) for row in range(60)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_every_row_once_an_epoch_and_no_batch_of_one(crystals: list[Crystal]) -> None:
    table = tensor_table.table(crystal_graphs.build(crystals[:21], QUOTIENT))
    labels = torch.arange(21.0)[:, None]
    rows = torch.arange(21)
    shuffled = list(tensor_table.batches(table, labels, rows, 10, torch.Generator().manual_seed(1)))
    assert [len(b.rows) for b in shuffled] == [10, 11]
    assert sorted(torch.cat([b.rows for b in shuffled]).tolist()) == list(range(21))
    assert all(torch.equal(b.labels[:, 0], b.rows.float()) for b in shuffled)
    again = list(tensor_table.batches(table, labels, rows, 10, torch.Generator().manual_seed(1)))
    assert all(torch.equal(a.rows, b.rows) for a, b in zip(shuffled, again, strict=True))
    in_order = list(tensor_table.batches(table, labels, rows, 10, None))
    assert [len(b.rows) for b in in_order] == [10, 10, 1]
    np.testing.assert_array_equal(torch.cat([b.rows for b in in_order]), np.arange(21))
