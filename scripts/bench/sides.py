"""The two sides of a comparison, which do the same work: the published CGCNN method, and tltool.

Each imports what it needs when it is made, in a process of its own, so that its peak memory is its own.
"""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.tasks import Task

if TYPE_CHECKING:
    from tltool.data.graph.crystal_graphs import GraphSettings

LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.01


class Side(Protocol):
    """One of the two methods. ``rows`` are row numbers of the task; a batch is whatever the side makes of them."""

    def use_threads(self, count: int) -> None:
        """Compute on ``count`` threads."""

    def graphs(self, kind: str) -> int:
        """Make graphs in the way called ``kind`` and throw them away; return how many."""

    def load(self) -> dict[str, float]:
        """Make the graphs to work with and keep them; return their sizes."""

    def network(self) -> nn.Module:
        """Return a network with fresh weights."""

    def optimiser(self, network: Any) -> torch.optim.Optimizer:
        """Return AdamW with ``LEARNING_RATE`` and ``WEIGHT_DECAY``."""

    def batches(self, rows: list[int], size: int, generator: torch.Generator | None) -> Iterable[Any]:
        """Return batches of ``size``, shuffled by ``generator`` if one is given."""

    def loss(self, network: Any, batch: Any) -> Tensor:
        """Return the mean squared error of the standardised formation energy."""

    def predict(self, network: Any, batch: Any) -> Tensor:
        """Return formation energies (c,) in eV/atom."""


class Published:
    """The published method, from pymatgen structures."""

    def __init__(self, task: Task) -> None:
        from pymatgen.core.structure import Structure

        from bench import published_cgcnn

        self.method = published_cgcnn
        structures = [Structure(c.lattice, c.numbers.tolist(), c.frac) for c in task.crystals]
        self.sample = [structures[row] for row in task.sample]
        self.data = published_cgcnn.Crystals(structures, task.labels.tolist())
        self.mean, self.spread = task.labels[task.train].mean(), task.labels[task.train].std()

    def use_threads(self, count: int) -> None:
        """Give them to PyTorch."""
        torch.set_num_threads(count)

    def graphs(self, kind: str) -> int:
        """Make the graphs of the sample."""
        return len(self.method.graphs(self.sample))

    def load(self) -> dict[str, float]:
        """Fill the cache of the data set."""
        items = [self.data[row][0] for row in range(len(self.data))]
        sites = sum(len(item.atoms) for item in items)
        return {"nodes": sites, "edges": sum(item.neighbours.numel() for item in items)}

    def network(self) -> nn.Module:
        """Return the published network."""
        return self.method.Network()

    def optimiser(self, network: Any) -> torch.optim.Optimizer:
        """Return PyTorch's fused optimiser."""
        return torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def batches(self, rows: list[int], size: int, generator: torch.Generator | None) -> Iterable[Any]:
        """Return the published loader."""
        return self.method.loader(self.data, rows, size, generator)

    def loss(self, network: Any, batch: Any) -> Tensor:
        """Return the loss on standardised labels."""
        inputs, labels = batch
        return F.mse_loss(network(inputs), (labels - self.mean) / self.spread)

    def predict(self, network: Any, batch: Any) -> Tensor:
        """Return predictions in eV/atom."""
        return network(batch[0]) * self.spread + self.mean  # type: ignore[no-any-return]


class Ours:
    """The same network from the parts of tltool."""

    def __init__(self, task: Task) -> None:
        from tltool.data.graph.crystal_graphs import GraphSettings
        from tltool.training import backend

        # As the command line does it: where there is no compiler, this measures plain PyTorch.
        self.backend = backend.choose("auto", "cpu", 1, lambda text: print(text, file=sys.stderr))

        def graph_settings(shells: str) -> "GraphSettings":
            return GraphSettings(cutoff=8.0, max_neighbours=12, shells=shells, quotient=True)

        self.graph_settings = {shells: graph_settings(shells) for shells in ("shared", "strict")}
        self.crystals = task.crystals
        self.labels = torch.tensor(task.labels[:, None], dtype=torch.float32)
        self.train = torch.tensor(task.train)

    def use_threads(self, count: int) -> None:
        """Give them to the compiled kernels, as the command line does; without those, to PyTorch."""
        cpp = self.backend.kernels.cpp if self.backend.kernels else None
        torch.set_num_threads(count if cpp is None else 1)
        if cpp is not None:
            cpp.wanted = count

    def graphs(self, kind: str) -> int:
        """Make the graphs of all crystals."""
        from tltool.data.graph.crystal_graphs import build

        return len(build(self.crystals, self.graph_settings[kind]))

    def load(self) -> dict[str, float]:
        """Make the table that batches are cut from."""
        from tltool.data.batches.tensor_table import table
        from tltool.data.graph.crystal_graphs import build

        self.table = table(build(self.crystals, self.graph_settings["shared"]))
        return {"nodes": len(self.table.number), "edges": len(self.table.neighbour)}

    def network(self) -> nn.Module:
        """Return the same network from our parts."""
        from tltool.model.encoders.cgcnn import CGCNN
        from tltool.model.layers.mlp import Trunk
        from tltool.model.property_model import PropertyModel
        from tltool.model.readouts.pool import Pool
        from tltool.model.scaler import composition, fit_scaler

        scaler = fit_scaler(
            self.labels[self.train, 0], composition(self.table.select(self.train)), reference=False, logarithmic=False
        )
        model = PropertyModel(
            CGCNN(dim=64, blocks=3, n_basis=41, basis_stop=8.0, elements="descriptors"),
            Pool(64, 4, levels=[-1], statistics=["mean"]),
            Trunk(64, width=128, depth=1, dropout=0.0),
            {"e_form": nn.Linear(128, 1)},
            {"e_form": scaler},
            {},
        )
        # Scaled once, as training does it.
        with torch.no_grad():
            self.goals = model.targets(self.labels, self.table.select(torch.arange(len(self.labels))))
        return self.backend.prepare(model)

    def optimiser(self, network: Any) -> torch.optim.Optimizer:
        """Return the optimiser that training takes."""
        return torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def batches(self, rows: list[int], size: int, generator: torch.Generator | None) -> Iterable[Any]:
        """Cut batches from the table."""
        from tltool.data.batches.tensor_table import batches

        return batches(self.table, self.labels, torch.tensor(rows), size, generator)

    def loss(self, network: Any, batch: Any) -> Tensor:
        """Return the loss on standardised labels."""
        return F.mse_loss(network.values(network.embed(batch.graph)), self.goals[batch.rows])

    def predict(self, network: Any, batch: Any) -> Tensor:
        """Return predictions in eV/atom."""
        return network(batch.graph)[:, 0]  # type: ignore[no-any-return]
