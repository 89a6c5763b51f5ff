"""Padding changes nothing: sums, losses, gradients and statistics are those of the batch without it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import FULL, QUOTIENT, fresh_model, graph_settings_of

from tltool.crystal_graph import Graph
from tltool.data.batches import padded, tensor_table
from tltool.data.batches.padded import Padded, Room
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.model.property_model import PropertyModel
from tltool.training import loss


def table_of(crystals: list[Crystal], graph_settings: crystal_graphs.GraphSettings = QUOTIENT) -> tensor_table.Table:
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings))


def with_room(source: tensor_table.Table, rows: list[int], *more: int) -> tuple[Padded, torch.Tensor]:
    """Return ``source`` with so much more room than ``rows`` need, and the rows with padding."""
    crystals, *extra = more
    held = padded.counts(source)[rows].sum(0) + 1
    room = Room(len(rows) + 1 + crystals, *(int(n) + extra[k % len(extra)] for k, n in enumerate(held)))
    return Padded(padded.closed(source), room), torch.tensor(rows + [len(source)] * (1 + crystals))


@pytest.mark.parametrize("graph_settings", [QUOTIENT, FULL, graph_settings_of("alignn")])
def test_what_is_not_padding_is_the_batch_itself(
    crystals: list[Crystal], graph_settings: crystal_graphs.GraphSettings
) -> None:
    source = table_of(crystals[:20], graph_settings)
    rows = [7, 3, 3, 19, 0]
    table, held = with_room(source, rows, 2, 5, 3, 7)
    wide, plain = table.select(held), source.select(torch.tensor(rows))

    def compare(wide: Graph, plain: Graph) -> None:
        n, e, d = len(plain.number), len(plain.neighbour), len(plain.distance)
        for name, most in (("number", n), ("multiplicity", n), ("crystal", n), ("distance", d)):
            assert torch.equal(getattr(wide, name)[:most], getattr(plain, name)), name
        for name in ("receiver", "neighbour", "edge_multiplicity", "distance_index"):
            assert torch.equal(getattr(wide, name)[:e], getattr(plain, name)), name
        assert (wide.multiplicity[n:] == 0).all()
        assert (wide.edge_multiplicity[e:] == 0).all()
        assert (wide.crystal[n:] == wide.n_crystals - 1).all()
        # Padding touches padding alone, and still makes sorted, compressed rows.
        for name, most in (("receiver", n), ("neighbour", n), ("distance_index", d)):
            assert (getattr(wide, name)[e:] >= most).all()
        assert torch.equal(torch.repeat_interleave(torch.arange(wide.n_nodes), wide.first_edge.diff()), wide.receiver)
        assert torch.equal(torch.repeat_interleave(torch.arange(wide.n_crystals), wide.first_node.diff()), wide.crystal)

    compare(wide, plain)
    if plain.line is not None and wide.line is not None:
        compare(wide.line, plain.line)
        assert wide.line.n_nodes == len(wide.neighbour)


def learnt(model: PropertyModel, graph: Graph, goals: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the loss, its gradients and what the normalisations remember, of one step."""
    model = model.train()
    was = {n: b.clone() for n, b in model.named_buffers()}
    model.zero_grad()
    error = loss.loss("huber", model.values(model.embed(graph)), goals)
    error.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    found |= {n: b.clone() for n, b in model.named_buffers()} | {"loss": error.detach()}
    for name, buffer in model.named_buffers():
        buffer.copy_(was[name])
    return found


WAYS = [
    ("cgcnn", ()),
    ("megnet", ()),
    ("megnet", ("readout=pool",)),
    ("alignn", ()),
    ("cgat", ()),
    ("cgcnn", ("readout=pool", "readout.statistics=[mean,std]")),
    ("cgcnn", ("readout=attention",)),
    ("cgcnn", ("readout=set2set",)),
]


@pytest.mark.parametrize(("encoder", "overrides"), WAYS)
@pytest.mark.usefixtures("double")
def test_a_step_learns_the_same_with_padding(crystals: list[Crystal], encoder: str, overrides: tuple[str, ...]) -> None:
    graph_settings = graph_settings_of(encoder)
    source = table_of(crystals[:24], graph_settings)
    model = fresh_model(encoder=encoder, overrides=overrides)
    rows = [5, 0, 11, 17, 2, 23]
    goals = torch.linspace(-1, 1, len(rows))[:, None]
    goals[3] = torch.nan
    plain = learnt(model, source.select(torch.tensor(rows)), goals)
    table, held = with_room(source, rows, 2, 9, 40, 11)
    wide = learnt(model, table.select(held), torch.cat([goals, torch.full((3, 1), torch.nan)]))
    assert wide.keys() == plain.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(wide[name], expected, rtol=1e-9, atol=1e-11, msg=name)


@given(data=st.data())
def test_an_epoch_is_that_of_the_plain_batches(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, 60))
    size = data.draw(st.integers(1, 20))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    sizes = random.integers(1, 50, (n, data.draw(st.sampled_from([3, 5]))))
    rows = torch.from_numpy(random.permutation(n)[: max(2, n // 2)])
    ready = padded.rooms(sizes[rows.numpy()], size)
    assert 1 <= len(ready) <= 6
    epoch = padded.epoch(rows, sizes, ready, size, torch.Generator().manual_seed(3))
    plain = tensor_table.pieces(rows, size, torch.Generator().manual_seed(3))
    assert epoch.held == [len(piece) for piece in plain]
    for line, room, piece in zip(epoch.rows, epoch.rooms, plain, strict=True):
        assert torch.equal(line[: len(piece)], piece)
        assert len(line) == room.crystals
        assert (line[len(piece) :] == n).all()
        assert len(line) > len(piece)
        total = sizes[piece.numpy()].sum(0)
        assert (total < np.array(room[1 : 1 + len(total)])).all()
    if len(rows) <= size:
        assert set(epoch.rooms) == set(ready), "all rows at once make one size"


def test_most_batches_find_a_room_that_is_not_much_too_large(crystals: list[Crystal]) -> None:
    random = np.random.default_rng(1)
    sizes = padded.counts(table_of(crystals))
    rows = torch.from_numpy(random.integers(0, len(crystals), 4000))
    ready = padded.rooms(sizes[rows.numpy()], 64)
    epoch = padded.epoch(rows, sizes, ready, 64, torch.Generator().manual_seed(0))
    assert np.mean([room in ready for room in epoch.rooms]) > 0.99
    used = sizes[epoch.rows[epoch.rows < len(sizes)].numpy()].sum(0)
    taken = np.sum([room[1:4] for room in epoch.rooms], axis=0)
    assert (taken < 1.35 * used).all()
