"""The side of ALIGNN's authors' code, with its own graphs: 4 + 4 layers of 256, or the size named as 2+2x64."""

from pathlib import Path
from typing import Any

import torch
import training
from torch import Tensor

from tltool.model.kernels.dgl import load as load_dgl

CUTOFF, NEIGHBOURS = 8.0, 12


def prepare(folder: Path, structures: list[Any], size: str) -> training.Side:
    """Make crystal graphs and line graphs."""
    dgl = load_dgl()
    from alignn.graphs import Graph
    from alignn.models.alignn import ALIGNN, ALIGNNConfig
    from jarvis.core.atoms import Atoms

    def pair(structure: Any) -> tuple[Any, Any]:
        elements = [site.specie.symbol for site in structure]
        atoms = Atoms(structure.lattice.matrix, structure.frac_coords.tolist(), elements, cartesian=False)
        found = Graph.atom_dgl_multigraph(
            atoms, cutoff=CUTOFF, max_neighbors=NEIGHBOURS, atom_features="cgcnn", neighbor_strategy="k-nearest"
        )
        return found[0], found[1]

    pairs, seconds = training.timed(lambda: [pair(structure) for structure in structures])
    sizes = {"published": (4, 4, 256), "small": (2, 2, 64)}[size]
    config = dict(zip(("alignn_layers", "gcn_layers", "hidden_features"), sizes, strict=True))
    network = ALIGNN(ALIGNNConfig(name="alignn", **config))

    def step(rows: Tensor) -> Tensor:
        graphs, lines = zip(*(pairs[row] for row in rows.tolist()), strict=True)
        return torch.as_tensor(network((dgl.batch(list(graphs)), dgl.batch(list(lines)), None))).reshape(-1)

    return training.Side(step, [network], seconds)


if __name__ == "__main__":
    training.main(prepare, "alignn")
