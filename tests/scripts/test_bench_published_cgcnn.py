"""The yardstick of the bench is the network that we claim to be: same weights, same numbers, to float64."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from support import of_space_group
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from bench import published_cgcnn as published

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.graph.crystal_graphs import GraphSettings, GraphTable
from tltool.data.record import from_structure
from tltool.model.encoders.cgcnn import CGCNN, Convolution
from tltool.model.layers.mlp import Trunk
from tltool.model.norm import WeightedBatchNorm
from tltool.model.property_model import PropertyModel
from tltool.model.readouts.pool import Pool
from tltool.model.scaler import Scaler

STRICT = GraphSettings(cutoff=published.RADIUS, max_neighbours=published.NEIGHBOURS, shells="strict", quotient=False)
CORNER_AND_MIDDLE = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """Compute in float64, so that only a difference in algebra can show."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def structures() -> list[Structure]:
    """Return two crystals with symmetry and six without, all with 12 neighbours per site within 8 Å."""
    made = [
        of_space_group("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], CORNER_AND_MIDDLE),
        Structure(Lattice.cubic(3.2), ["Cs", "Cl"], CORNER_AND_MIDDLE),
    ]
    draw = np.random.default_rng(0)
    for n in range(2, 8):
        lattice = Lattice(np.eye(3) * 3.1 * n ** (1 / 3) + draw.normal(0, 0.2, (3, 3)))
        made.append(Structure(lattice, draw.integers(1, 90, n).tolist(), draw.random((n, 3))))
    return made


def published_items(table: GraphTable) -> list[published.Item]:
    """Return the published input of each crystal of a strict full ``table``: its edges, its distances."""
    items = []
    for crystal, first_distance in enumerate(table.first_distance[:-1]):
        begin, end = table.first_node[crystal : crystal + 2]
        edges = slice(table.first_edge[begin], table.first_edge[end])
        distances = table.distance[table.distance_index[edges] + first_distance]
        neighbours = table.neighbour[edges].astype(np.int64)
        shape = (end - begin, published.NEIGHBOURS)
        items.append(
            published.item(
                table.number[begin:end].astype(np.int64), neighbours.reshape(shape), distances.reshape(shape)
            )
        )
    return items


def copied(source: published.Network) -> PropertyModel:
    """Return our model with the weights of ``source``."""
    dim, hidden = published.DIM, published.HIDDEN
    encoder = CGCNN(dim=dim, blocks=published.BLOCKS, n_basis=len(published.CENTRES), basis_stop=published.RADIUS,
                    elements="descriptors")  # fmt: skip
    model = PropertyModel(
        encoder,
        Pool(dim, encoder.n_levels, levels=[-1], statistics=["mean"]),
        Trunk(dim, width=hidden, depth=1, dropout=0.0),
        {"e_form": nn.Linear(hidden, 1)},
        {"e_form": Scaler()},
        {},
    )
    encoder.embedding.load_state_dict(source.embedding.state_dict())
    model.trunk.layers[0].load_state_dict(source.conv_to_fc.state_dict())  # type: ignore[union-attr, index]
    model.heads["e_form"].load_state_dict(source.fc_out.state_dict())
    with torch.no_grad():
        for ours, theirs in zip(encoder.blocks, source.blocks, strict=True):
            assert isinstance(ours, Convolution)
            assert isinstance(theirs, published.Convolution)
            ours.receiver.weight.copy_(theirs.full.weight[:, :dim])
            ours.receiver.bias.copy_(theirs.full.bias)
            ours.neighbour.weight.copy_(theirs.full.weight[:, dim : 2 * dim])
            ours.distance.weight.copy_(theirs.full.weight[:, 2 * dim :])
            copy_norm(ours.norm_edges, theirs.norm_edges)
            copy_norm(ours.norm_sites, theirs.norm_sites)
    return model.double()  # the element table is float32


def copy_norm(ours: WeightedBatchNorm, theirs: nn.BatchNorm1d) -> None:
    """Copy a normalisation, drawn at random first: fresh ones are all alike and would hide a mistake."""
    for tensor in (theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var):
        assert tensor is not None
        tensor.copy_(torch.rand_like(tensor) + 0.5)
    ours.scale.copy_(theirs.weight)
    ours.bias.copy_(theirs.bias)
    assert theirs.running_mean is not None
    assert theirs.running_var is not None
    ours.mean.copy_(theirs.running_mean)
    ours.variance.copy_(theirs.running_var)


def test_our_algebra_is_the_published_network() -> None:
    crystals = [from_structure(s, "test") for s in structures()]
    table = crystal_graphs.build(crystals, STRICT)
    assert (np.diff(table.first_edge) == published.NEIGHBOURS).all()
    inputs, _ = published.collate([(item, 0.0) for item in published_items(table)])
    graph = tensor_table.table(table).select(torch.arange(len(crystals)))
    torch.manual_seed(0)
    theirs = published.Network()
    ours = copied(theirs)

    def close(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)

    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters()) == 80_769
    theirs.eval(), ours.eval()
    before = ours(graph)[:, 0]
    assert before.std() > 1e-3
    close(before, theirs(inputs))
    theirs.train(), ours.train()
    close(ours(graph)[:, 0], theirs(inputs))
    ours(graph).square().sum().backward()
    theirs(inputs).square().sum().backward()
    close(ours.encoder.embedding.weight.grad, theirs.embedding.weight.grad)  # type: ignore[union-attr, arg-type]
    theirs.eval(), ours.eval()
    after = ours(graph)[:, 0]
    assert (after - before).abs().max() > 1e-3, "the running statistics moved"
    close(after, theirs(inputs))


def test_our_neighbours_are_the_published_ones() -> None:
    made = structures()
    table = crystal_graphs.build([from_structure(s, "test") for s in made], STRICT)
    for structure, ours in zip(made, published_items(table), strict=True):
        torch.testing.assert_close(ours.gaussians, published.graph(structure).gaussians, rtol=0, atol=2e-3)


def test_too_few_neighbours_are_filled_up() -> None:
    lonely = Structure(Lattice.cubic(7.0), ["He"], [[0, 0, 0]])
    neighbours, distances = published.nearest(lonely)
    assert neighbours.tolist() == [[0] * 12]
    np.testing.assert_allclose(distances, [[7.0] * 6 + [9.0] * 6])
    assert len(crystal_graphs.build([from_structure(lonely, "test")], STRICT).neighbour) == 6


def test_a_batch_counts_sites_through() -> None:
    a, b = (published.graph(s) for s in structures()[:2])
    inputs, labels = published.collate([(a, 1.0), (b, 2.0)])
    assert torch.equal(inputs.neighbours[len(a.atoms) :], b.neighbours + len(a.atoms))
    assert [len(sites) for sites in inputs.sites] == [len(a.atoms), len(b.atoms)]
    assert labels.tolist() == [1.0, 2.0]


def test_a_graph_is_made_once() -> None:
    data = published.Crystals(structures()[:2], [0.0, 1.0])
    assert data[1][0] is data[1][0]
    assert [len(labels) for _, labels in published.loader(data, [0, 1, 1], 2, None)] == [2, 1]
