"""Compare our MEGNet with MatGL's: the same weights on 50 real crystals.

Needs ``matgl`` (4.1) and ``torch_geometric`` beside tltool: ``python scripts/fidelity/megnet.py``.
The embedding is compared, and what MatGL's last layers make of either embedding; our trunk is the one all our encoders
share. Departures: MatGL puts a Gaussian of another width on the distances (exp(-0.5 d^2), 1.41 Å, where the published
code has 0.5 Å), which ``basis_width`` follows here; distances less than 1e-4 Å apart are one distance in our graphs.

Measured with matgl 4.1.2: embeddings (spread 0.12) and outputs (spread 0.23) agree to 3e-7. Parameters before the last
layers: 183,824 of MatGL, 175,856 of ours, since a second map of the LSTM's hidden state says nothing new (-8,448) and
we have 30 more element vectors (+480).

How fast the two train is measured by scripts/peers.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matgl
import torch
from matgl.config import DEFAULT_ELEMENTS
from matgl.ext.pymatgen import Structure2Graph
from matgl.models import MEGNet as TheirMEGNet
from pymatgen.core.structure import Structure
from torch import nn
from torch_geometric.data import Batch, Data

from tltool.data import store
from tltool.data.batches.tensor_table import table
from tltool.data.graph.crystal_graphs import GraphSettings, build
from tltool.data.record import Crystal
from tltool.elements import number_of
from tltool.model.encoders.megnet import EdgeUpdate, Layers, MEGNet
from tltool.model.readouts.set2set import Reader, Set2Set

DEMO = Path(__file__).parents[2] / "tltool" / "data" / "bundled" / "demo.h5"
CUTOFF = 4.0


def ours() -> tuple[MEGNet, Set2Set]:
    """Return our encoder and readout in the sizes of MatGL's."""
    encoder = MEGNet(
        dim=32,
        hidden=64,
        blocks=3,
        n_basis=100,
        basis_stop=CUTOFF + 1.0,
        basis_width=math.sqrt(2.0),
        element_dim=16,
        elements="learned",
        state_inputs=2,
    )
    return encoder, Set2Set(32, 4, encoder.extras, levels=[-1], width=None, steps=2)


@torch.no_grad()
def copy_weights(theirs: Any, encoder: MEGNet, readout: Set2Set) -> None:
    """Copy the weights of ``theirs`` into ours."""
    numbers = torch.tensor([number_of(symbol) for symbol in DEFAULT_ELEMENTS])
    encoder.species.map.weight.zero_()
    encoder.species.map.weight[:, numbers] = theirs.embedding.layer_node_embedding.weight.T
    _layers(theirs.node_encoder, encoder.of_sites)
    _layers(theirs.edge_encoder, encoder.of_edges)
    _layers(theirs.state_encoder, encoder.of_state)
    for block, source in zip(encoder.blocks, theirs.blocks, strict=True):
        if not block.first:
            for name, part in (("sites", "node_func"), ("edges", "edge_func"), ("state", "state_func")):
                _layers(getattr(source, part), block.before[name])  # type: ignore[index, arg-type]
        _edge_update(source.conv.edge_func, block.of_edges)  # type: ignore[arg-type]
        _layers(source.conv.node_func, block.of_sites)  # type: ignore[arg-type]
        _layers(source.conv.state_func, block.of_state)  # type: ignore[arg-type]
    _lstm(theirs.node_s2s.lstm, readout.of_sites)
    _lstm(theirs.edge_s2s.lstm, readout.of_edges)  # type: ignore[arg-type]


def _linears(source: nn.Module) -> list[nn.Linear]:
    return [m for m in source.modules() if isinstance(m, nn.Linear)]


def _layers(source: nn.Module, target: Layers) -> None:
    for a, b in zip(_linears(source), target.maps, strict=True):
        b.load_state_dict(a.state_dict())


def _edge_update(source: nn.Module, target: EdgeUpdate) -> None:
    first, *rest = _linears(source)
    parts = first.weight.chunk(4, dim=1)
    for part, weight in zip((target.receiver, target.neighbour, target.edge, target.state), parts, strict=True):
        part.weight.copy_(weight)
    target.receiver.bias.copy_(first.bias)
    for a, b in zip(rest, target.rest.maps, strict=True):
        b.load_state_dict(a.state_dict())


def _lstm(source: Any, target: Reader) -> None:
    """The hidden state is the first half of the LSTM's input, so its two maps act on it as their sum."""
    weight = source.weight_ih_l0.clone()
    weight[:, : source.hidden_size] += source.weight_hh_l0
    target.gates.weight.copy_(weight)
    target.gates.bias.copy_(source.bias_ih_l0 + source.bias_hh_l0)


def their_graph(crystal: Crystal) -> Data:
    """Return the graph of ``crystal`` as MatGL makes it, with the positions that its training puts in."""
    converter = Structure2Graph(element_types=DEFAULT_ELEMENTS, cutoff=CUTOFF)
    graph, lattice, _ = converter.get_graph(Structure(crystal.lattice, crystal.numbers.tolist(), crystal.frac))
    graph.pos = graph.frac_coords @ lattice[0]
    graph.pbc_offshift = graph.pbc_offset @ lattice[0]
    return graph


def parameters(*parts: nn.Module) -> int:
    """Return how many numbers of ``parts`` are trained."""
    return sum(p.numel() for part in parts for p in part.parameters() if p.requires_grad)


def compare(crystals: list[Crystal]) -> None:
    """Print how far the two are apart on ``crystals``, in float64."""
    matgl.set_default_dtype("float", 64)
    torch.manual_seed(0)
    theirs = TheirMEGNet(cutoff=CUTOFF).double().eval()
    # MatGL's own draw makes embeddings that differ little from crystal to crystal; wider weights make a sharper test.
    for part in theirs.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight, gain=1.5)
    encoder, readout = ours()
    encoder.double().eval(), readout.double().eval()
    copy_weights(theirs, encoder, readout)
    state = torch.zeros(len(crystals), 2)
    with torch.no_grad():
        batch = Batch.from_data_list([their_graph(c) for c in crystals])
        output = theirs(batch, state)
        embedding = theirs.feature_dict["readout"]
        for quotient in (True, False):
            graph_settings = GraphSettings(cutoff=CUTOFF, max_neighbours=None, shells="shared", quotient=quotient)
            graph = replace(table(build(crystals, graph_settings)).select(torch.arange(len(crystals))), state=state)
            mine = readout(encoder(graph), graph)
            apart = (mine - embedding).abs().max(), (theirs.output_proj(mine)[:, 0] - output).abs().max()
            print(
                f"{'quotient' if quotient else 'full'} graph, {len(crystals)} crystals: embeddings differ by at most "
                f"{apart[0]:.1e} (spread {embedding.std(0).mean():.2g}), outputs by {apart[1]:.1e} ({output.std():.2g})"
            )
    last = parameters(theirs.output_proj)
    print(
        f"parameters before the last layers: MatGL {parameters(theirs) - last:,}, ours {parameters(encoder, readout):,}"
    )
    print("(30 element vectors and a second map of the LSTM's hidden state make the difference)")
    matgl.set_default_dtype("float", 32)


if __name__ == "__main__":
    demo = store.load(DEMO)
    compare([demo.crystal(row) for row in range(0, len(demo), len(demo) // 50)][:50])
