"""Our side, in the size of the peer that ``--size`` names: cgcnn2, matgl, alignn or alignn_small."""

import math
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import training
from torch import Tensor, nn

from tltool.crystal_graph import as_levels
from tltool.data.batches.tensor_table import table
from tltool.data.graph.crystal_graphs import GraphSettings, GraphTable
from tltool.data.graph.crystal_graphs import build as build_graphs
from tltool.data.record import Crystal
from tltool.model.encoders.alignn import ALIGNN
from tltool.model.encoders.cgcnn import CGCNN
from tltool.model.encoders.megnet import MEGNet
from tltool.model.readouts.pool import Pool
from tltool.model.readouts.set2set import Set2Set
from tltool.training import backend

RECIPES = {
    "cgcnn2": GraphSettings(cutoff=8.0, max_neighbours=12, shells="shared", quotient=True),
    "matgl": GraphSettings(cutoff=4.0, max_neighbours=None, shells="shared", quotient=True),
    "alignn": GraphSettings(cutoff=8.0, max_neighbours=12, shells="mutual", quotient=True, angles=True),
}


def network_of(size: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return encoder, readout and last layers."""
    if size == "cgcnn2":
        cgcnn = CGCNN(dim=64, blocks=3, n_basis=41, basis_stop=8.0, elements="descriptors")
        last = nn.Sequential(nn.Softplus(), nn.Linear(64, 128), nn.Softplus(), nn.Linear(128, 1))
        return cgcnn, Pool(64, 4, levels=[-1], statistics=["mean"]), last
    if size == "matgl":
        megnet = MEGNet(
            dim=32, hidden=64, blocks=3, n_basis=100, basis_stop=5.0, basis_width=math.sqrt(2.0), element_dim=16,
            elements="learned", state_inputs=2,
        )  # fmt: skip
        readout = Set2Set(32, 4, megnet.extras, levels=[-1], width=None, steps=2)
        sizes = [readout.dim, 32, 16, 1]
        maps = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        return megnet, readout, nn.Sequential(maps[0], nn.Softplus(), maps[1], nn.Softplus(), maps[2])
    blocks, dim = {"alignn": (4, 256), "alignn_small": (2, 64)}[size]
    alignn = ALIGNN(
        dim=dim, line_blocks=blocks, blocks=blocks, n_basis=80, basis_stop=8.0, n_angles=40, width=64,
        elements="descriptors",
    )  # fmt: skip
    return alignn, Pool(dim, 2 * blocks + 1, levels=[-1], statistics=["mean"]), nn.Linear(dim, 1)


def prepare(folder: Path, structures: list[Any], size: str) -> training.Side:
    """Make the table that batches are cut from; kernels are those that the command line takes."""
    chosen = backend.choose("auto", "cpu", torch.get_num_threads(), lambda text: print(text, file=sys.stderr))

    def made() -> GraphTable:
        read = [Crystal(s.lattice.matrix, s.frac_coords, np.array(s.atomic_numbers)) for s in structures]
        return build_graphs(read, RECIPES[size.removesuffix("_small")])

    graphs, seconds = training.timed(made)
    rows = table(graphs)
    encoder, readout, last = map(chosen.prepare, network_of(size))

    def step(batch: Tensor) -> Tensor:
        graph = rows.select(batch)
        if size == "matgl":
            graph = replace(graph, state=torch.zeros(len(batch), 2))
        return last(readout(as_levels(encoder(graph)), graph))[:, 0]  # type: ignore[no-any-return]

    return training.Side(step, [encoder, readout, last], None if size == "cgcnn2" else seconds)


if __name__ == "__main__":
    training.main(prepare, "tltool")
