"""The side of MatGL's MEGNet, with its own graphs and the batches of PyTorch Geometric, at its cutoff of 4 Å."""

from pathlib import Path
from typing import Any

import torch
import training
from matgl.config import DEFAULT_ELEMENTS
from matgl.ext.pymatgen import Structure2Graph
from matgl.models import MEGNet
from torch import Tensor
from torch_geometric.data import Batch

CUTOFF = 4.0


def prepare(folder: Path, structures: list[Any], size: str) -> training.Side:
    """Make the graphs, with the positions that MatGL's training puts in; the network has its default size."""
    converter = Structure2Graph(element_types=DEFAULT_ELEMENTS, cutoff=CUTOFF)

    def graph_of(structure: Any) -> Any:
        graph, lattice, _ = converter.get_graph(structure)
        graph.pos, graph.pbc_offshift = graph.frac_coords @ lattice[0], graph.pbc_offset @ lattice[0]
        return graph

    graphs, seconds = training.timed(lambda: [graph_of(structure) for structure in structures])
    network = MEGNet(cutoff=CUTOFF)

    def step(rows: Tensor) -> Tensor:
        batch = Batch.from_data_list([graphs[row] for row in rows.tolist()])
        return network(batch, torch.zeros(len(rows), 2))  # type: ignore[no-any-return]

    return training.Side(step, [network], seconds)


if __name__ == "__main__":
    training.main(prepare, "matgl")
