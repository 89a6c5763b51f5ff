import torch
from support import QUOTIENT, fresh_model

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.sweep import stacked_batch


def test_each_part_gives_what_it_gives_alone(crystals: list[Crystal]) -> None:
    table = tensor_table.table(crystal_graphs.build(crystals, QUOTIENT))
    rows = torch.tensor([[3, 0, 7], [20, 21, 22], [5, 5, 40]])
    graph, parts = stacked_batch.select(table, rows)
    assert graph.n_crystals == rows.numel()
    assert graph.n_nodes == parts.count * parts.nodes
    assert parts.nodes == max(table.select(own).n_nodes for own in rows)
    assert (graph.receiver.diff() >= 0).all()
    assert (graph.crystal.diff() >= 0).all()
    assert torch.equal(torch.bincount(graph.receiver, minlength=graph.n_nodes), graph.first_edge.diff())
    model = fresh_model()
    model.eval()
    for k, own in enumerate(rows):
        alone = table.select(own)
        assert torch.equal(graph.n_sites()[3 * k : 3 * k + 3], alone.n_sites())
        begin, end = int(parts.first_distance[k]), int(parts.last_distance[k])
        assert torch.equal(graph.distance[begin:end], alone.distance)
        torch.testing.assert_close(model(graph)[3 * k : 3 * k + 3], model(alone), rtol=1e-5, atol=1e-6)


def test_pieces_are_those_of_batches() -> None:
    rows = torch.arange(26).view(2, 13)
    assert [piece.shape[1] for piece in tensor_table.cut(rows, 4, shuffled=True)] == [4, 4, 5]
    assert [piece.shape[1] for piece in tensor_table.cut(rows, 4, shuffled=False)] == [4, 4, 4, 1]
