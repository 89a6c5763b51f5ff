"""Compare our ALIGNN with its authors' code (``alignn`` on the package index), weights copied, on bundled crystals.

    pip install --no-deps alignn jarvis-tools pydantic-settings python-dotenv xmltodict toolz tqdm
    python scripts/fidelity/alignn_reference.py

How fast the two train is measured by scripts/peers.

Outputs are compared in float64, on the edges that tltool finds, which isolates the network, and on the graphs that the
published code makes, sorted by what makes those differ. Known differences of graphs:

- distances closer than 1e-4 Å are one here, and cosines closer than 1e-4 between edges of the same two lengths;
- an edge from a site to its own image counts twice there, and makes no angle with the next copy of itself; in a
  supercell it counts once and does, and here it always does;
- a shell is cut where rounding makes its distances differ in the last digits; here it is kept whole;
- there the cutoff grows until every site has 12 neighbours; here it does not, and a site may have fewer.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tltool.data import store
from tltool.data.batches import tensor_table
from tltool.data.graph import angles, crystal_graphs, neighbours
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.record import Crystal, Ints
from tltool.elements import symbols
from tltool.model import message_passing
from tltool.model.encoders.alignn import ALIGNN, EdgeGated, Layer
from tltool.model.kernels.dgl import load as load_dgl
from tltool.model.norm import WeightedBatchNorm

DEMO = Path(__file__).parents[2] / "tltool" / "data" / "bundled" / "demo.h5"
RECIPE = GraphSettings(cutoff=8.0, max_neighbours=12, shells="mutual", quotient=True, angles=True)
SIZES = {"4+4x256": (4, 4, 256), "2+2x64": (2, 2, 64)}


def published(line_blocks: int, blocks: int, dim: int) -> nn.Module:
    """Return the published network with fresh weights."""
    load_dgl()
    from alignn.models.alignn import ALIGNN as Published
    from alignn.models.alignn import ALIGNNConfig

    config = ALIGNNConfig(name="alignn", alignn_layers=line_blocks, gcn_layers=blocks, hidden_features=dim)
    return Published(config)  # type: ignore[no-any-return]


def ours(line_blocks: int, blocks: int, dim: int, elements: str = "learned") -> ALIGNN:
    """Return our encoder in the same shape."""
    return ALIGNN(
        dim=dim, line_blocks=line_blocks, blocks=blocks, n_basis=80, basis_stop=8.0, n_angles=40, width=64,
        elements=elements,
    )  # fmt: skip


def element_features(numbers: Ints) -> Tensor:
    """Return the 92 features that the published code knows an element by, (n, 92)."""
    from jarvis.core.specie import get_node_attributes

    rows = {n: get_node_attributes(symbols([n]), atom_features="cgcnn") for n in np.unique(numbers).tolist()}
    return torch.tensor(np.array([rows[n] for n in numbers.tolist()]), dtype=torch.get_default_dtype())


@torch.no_grad()
def copy_weights(source: Any, target: ALIGNN, numbers: Ints) -> None:
    """Give ``target`` the weights and running statistics of ``source``, for the elements ``numbers``."""

    def linear(mine: nn.Linear, its: nn.Linear) -> None:
        mine.weight.copy_(its.weight)
        mine.bias.copy_(its.bias)

    def norm(mine: WeightedBatchNorm | None, its: nn.BatchNorm1d) -> None:
        if mine is not None and its.running_mean is not None and its.running_var is not None:
            mine.scale.copy_(its.weight)
            mine.bias.copy_(its.bias)
            mine.mean.copy_(its.running_mean)
            mine.variance.copy_(its.running_var)

    def layer(mine: Layer, its: Any) -> None:
        linear(mine.linear, its.layer[0])
        norm(mine.norm, its.layer[1])

    def convolution(mine: EdgeGated, its: Any) -> None:
        names = ("receiver", "dst_gate"), ("neighbour", "src_gate"), ("edge", "edge_gate"), ("node", "src_update")
        for name, other in (*names, ("message", "dst_update")):
            linear(getattr(mine, name), getattr(its, other))
        norm(mine.norm_nodes, its.bn_nodes)
        norm(mine.norm_edges, its.bn_edges)

    known = np.unique(numbers)
    atoms = source.atom_embedding.layer
    target.embedding.linear.weight[:, known] = atoms[0].weight @ element_features(known).T
    target.embedding.linear.bias.copy_(atoms[0].bias)
    norm(target.embedding.norm, atoms[1])
    for mine, its in ((target.distances, source.edge_embedding), (target.angles, source.angle_embedding)):
        layer(mine.first, its[1])
        layer(mine.second, its[2])
    parts: list[Any] = list(target.blocks)
    for block, its in zip(parts, [*source.alignn_layers, *source.gcn_layers], strict=True):
        convolution(block.two_body, getattr(its, "node_update", its))
        if block.three_body is not None:
            convolution(block.three_body, its.edge_update)


def as_dgl(crystal: Crystal, site: Ints, other: Ints, image: Ints, complete: bool = False) -> tuple[Any, Any]:
    """Return crystal graph and line graph for the published code, with edges from ``other`` in ``image`` to ``site``.

    ``complete`` adds the angles between an edge and the next copy of itself, which its line graph lacks.
    """
    from alignn.graphs import compute_bond_cosines

    frac = crystal.frac % 1.0
    graph = load_dgl().graph((torch.from_numpy(other), torch.from_numpy(site)), num_nodes=len(frac))
    vector = (frac[site] - frac[other] - image) @ crystal.lattice
    graph.edata["r"] = torch.tensor(vector, dtype=torch.get_default_dtype())
    graph.ndata["atom_features"] = element_features(crystal.numbers)
    line = graph.line_graph(shared=True)
    if complete:
        again = torch.from_numpy(np.flatnonzero(site == other))
        line.add_edges(again, again)
    line.apply_edges(compute_bond_cosines)
    return graph, line


def published_edges(crystal: Crystal) -> tuple[Ints, Ints, Ints]:
    """Return the edges that the published code makes: receiving site, other site, image of the latter (e, 3)."""
    from alignn.graphs import build_undirected_edgedata, nearest_neighbor_edges
    from jarvis.core.atoms import Atoms

    frac = crystal.frac % 1.0
    names = [symbols([n]) for n in crystal.numbers.tolist()]
    atoms = Atoms(lattice_mat=crystal.lattice, coords=frac, elements=names, cartesian=False)
    edges, _ = nearest_neighbor_edges(atoms=atoms, cutoff=8, max_neighbors=12, use_canonize=True)
    start, end, vector, _ = build_undirected_edgedata(atoms, edges)
    start, end = start.numpy(), end.numpy()
    steps = vector.double().numpy() @ np.linalg.inv(crystal.lattice)
    return end, start, np.rint(frac[end] - frac[start] - steps).astype(np.int64)


def kind_of(crystal: Crystal, theirs: tuple[Ints, Ints, Ints]) -> str:
    """Say in a word how the published code's edges differ from tltool's."""
    found = neighbours.find(crystal, RECIPE.cutoff, RECIPE.max_neighbours, RECIPE.shells)

    def rows(site: Ints, other: Ints, image: Ints) -> list[tuple[int, ...]]:
        return sorted(map(tuple, np.column_stack([site, other, image]).tolist()))

    mine, its = rows(found.site, found.neighbour, found.image), rows(*theirs)
    if mine == its:
        return "the same"
    if mine == sorted(set(its)):
        return "self-image edges twice"
    short = np.bincount(found.site, minlength=len(crystal.numbers)).min() < 12
    return "cutoff grown" if short else "a shell cut"


@torch.no_grad()
def values_of_published(network: Any, pairs: list[tuple[Any, Any]]) -> Tensor:
    """Return the outputs (c,) for crystal graphs and their line graphs, as one batch."""
    dgl = load_dgl()
    crystal_graphs, lines = zip(*pairs, strict=True)
    return network((dgl.batch(list(crystal_graphs)), dgl.batch(list(lines)), None)).reshape(-1)  # type: ignore[no-any-return]


@torch.no_grad()
def values_of_ours(encoder: ALIGNN, head: nn.Linear, crystals: list[Crystal]) -> Tensor:
    """Return the outputs (c,) of our encoder under the published pooling and ``head``."""
    graph = tensor_table.table(crystal_graphs.build(crystals, RECIPE)).select(torch.arange(len(crystals)))
    return head(message_passing.crystal_mean(graph, encoder(graph)[-1]))[:, 0]  # type: ignore[no-any-return]


def compare(n: int) -> None:
    """Print parameters, how the graphs differ, and the largest differences of outputs."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    demo = store.load(DEMO)
    crystals = [demo.crystal(row) for row in range(0, len(demo), len(demo) // n)][:n]
    network: Any = published(4, 4, 256).double()
    encoder = ours(4, 4, 256).double()
    count = sum(p.numel() for p in network.parameters())
    head = sum(p.numel() for p in network.fc.parameters())
    same = sum(p.numel() for p in encoder.parameters()) - (119 - 92) * 256 + head
    print(f"parameters: published {count:,}; ours with its element features and head {same:,}, {count - same:,} fewer")

    theirs = [published_edges(crystal) for crystal in crystals]
    found = [neighbours.find(c, RECIPE.cutoff, RECIPE.max_neighbours, RECIPE.shells) for c in crystals]
    on_ours = [as_dgl(c, f.site, f.neighbour, f.image, complete=True) for c, f in zip(crystals, found, strict=True)]
    # Running statistics as after training: those of the crystals themselves.
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 1.0
    training = values_of_published(network.train(), on_ours)
    numbers = np.concatenate([c.numbers for c in crystals])
    copy_weights(network, encoder, numbers)
    its = torch.cat([values_of_published(network.eval(), [pair]) for pair in on_ours])
    exact = crystal_graphs.DISTANCE_TOLERANCE, angles.COSINE_TOLERANCE
    for tolerances in ((1e-12, 1e-12), exact):
        crystal_graphs.DISTANCE_TOLERANCE, angles.COSINE_TOLERANCE = tolerances
        mine = values_of_ours(encoder.train(), network.fc, crystals)
        copy_weights(network, encoder, numbers)
        in_training = (mine - training).abs().max()
        off = (values_of_ours(encoder.eval(), network.fc, crystals) - its).abs()
        print(
            f"same edges, distances within {tolerances[0]:.0e} Å and cosines within {tolerances[1]:.0e} merged: "
            f"training {in_training:.1e}, evaluation {off.max():.1e} at most, {off.median():.1e} in the middle"
        )
    print(f"  (outputs spread {training.std():.2f} in training, {its.std():.2f} in evaluation)")
    mine = values_of_ours(encoder, network.fc, crystals)

    kinds = [kind_of(crystal, edges) for crystal, edges in zip(crystals, theirs, strict=True)]
    its = torch.cat(
        [values_of_published(network, [as_dgl(c, *edges)]) for c, edges in zip(crystals, theirs, strict=True)]
    )
    for kind in sorted(set(kinds)):
        rows = torch.tensor([k for k, found_kind in enumerate(kinds) if found_kind == kind])
        most = (mine - its)[rows].abs().max()
        print(f"its own graphs, {kind}: {len(rows)} of {n} crystals, outputs differ by {most:.1e} at most")


if __name__ == "__main__":
    compare(50)
