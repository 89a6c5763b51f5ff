"""The published CGCNN method (Xie and Grossman, doi:10.1103/PhysRevLett.120.145301), plainly: the bench's yardstick.

The method in our own words, step for step as published, so that every machine measures it afresh: all neighbours
within 8 Å sorted in Python, the 12 nearest kept; one item per crystal, cached; a dense (site, neighbour) layout with
the two sites and the distance put side by side for one linear map; a Python loop for the pooling. One thing differs:
the fixed element descriptors of ``tltool.elements`` (91 columns) take the place of ``atom_init.json`` (92).
``tests/scripts/test_bench_published.py`` holds it to the same numbers as our encoder.
Sizes: c crystals, s sites of the batch, k = 12 neighbours, f features, g Gaussians.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pymatgen.core.structure import Structure
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from tltool.elements import descriptors

RADIUS = 8.0
NEIGHBOURS = 12
STEP = 0.2
CENTRES = np.linspace(0.0, RADIUS, round(RADIUS / STEP) + 1)
DIM, HIDDEN, BLOCKS = 64, 128, 3


class Item(NamedTuple):
    """One crystal: ``atoms`` (s, 91), ``gaussians`` (s, k, g), ``neighbours`` (s, k) site numbers."""

    atoms: Tensor
    gaussians: Tensor
    neighbours: Tensor


class Inputs(NamedTuple):
    """A batch: as ``Item`` with sites counted through, and ``sites`` with the site numbers of each crystal."""

    atoms: Tensor
    gaussians: Tensor
    neighbours: Tensor
    sites: list[Tensor]


def nearest(structure: Structure) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return site numbers (s, k) and distances (s, k) in Å of the nearest neighbours.

    A site with fewer than k is filled up with site 0 at one Å beyond the radius.
    """
    indices, distances = [], []
    for found in structure.get_all_neighbors(r=RADIUS, include_index=True):
        kept = sorted(found, key=lambda neighbour: neighbour.nn_distance)[:NEIGHBOURS]
        missing = NEIGHBOURS - len(kept)
        indices.append([neighbour.index for neighbour in kept] + [0] * missing)
        distances.append([neighbour.nn_distance for neighbour in kept] + [RADIUS + 1.0] * missing)
    return np.array(indices, dtype=np.int64), np.array(distances, dtype=np.float64)


def item(numbers: npt.NDArray[np.int64], neighbours: npt.NDArray[np.int64], distances: npt.NDArray[np.float64]) -> Item:
    """Return the network's input of one crystal from atomic numbers (s,), neighbours and distances (s, k) in Å."""
    kind = torch.get_default_dtype()
    atoms = np.vstack([descriptors()[number] for number in numbers])
    gaussians = np.exp(-((distances[..., None] - CENTRES) ** 2) / STEP**2)
    return Item(torch.tensor(atoms, dtype=kind), torch.tensor(gaussians, dtype=kind), torch.from_numpy(neighbours))


def graph(structure: Structure) -> Item:
    """Return the network's input of ``structure``."""
    return item(np.array(structure.atomic_numbers), *nearest(structure))


def graphs(structures: Sequence[Structure]) -> list[Item]:
    """Return the network's input of each of ``structures``."""
    return [graph(structure) for structure in structures]


class Crystals(Dataset[tuple[Item, float]]):
    """Structures with their labels; a graph is made when first asked for and kept in memory."""

    def __init__(self, structures: Sequence[Structure], labels: Sequence[float]) -> None:
        self.structures, self.labels = structures, labels
        self._graph = lru_cache(maxsize=None)(lambda row: graph(self.structures[row]))

    def __len__(self) -> int:
        """Return the number of crystals."""
        return len(self.structures)

    def __getitem__(self, row: int) -> tuple[Item, float]:
        """Return the network's input and the label of one crystal."""
        return self._graph(row), self.labels[row]


def collate(samples: Sequence[tuple[Item, float]]) -> tuple[Inputs, Tensor]:
    """Join crystals to a batch, site numbers shifted; return it with the labels (c,)."""
    atoms, gaussians, neighbours, sites, labels = [], [], [], [], []
    first = 0
    for crystal, label in samples:
        n = len(crystal.atoms)
        atoms.append(crystal.atoms)
        gaussians.append(crystal.gaussians)
        neighbours.append(crystal.neighbours + first)
        sites.append(torch.arange(first, first + n))
        labels.append(label)
        first += n
    joined = Inputs(torch.cat(atoms), torch.cat(gaussians), torch.cat(neighbours), sites)
    return joined, torch.tensor(labels, dtype=torch.get_default_dtype())


def loader(crystals: Crystals, rows: Sequence[int], size: int, generator: torch.Generator | None) -> DataLoader[Any]:
    """Return batches of ``size`` over ``rows``, shuffled by ``generator`` if one is given."""
    shuffled = generator is not None
    return DataLoader(Subset(crystals, rows), size, shuffle=shuffled, generator=generator, collate_fn=collate)


class Convolution(nn.Module):
    """One gated convolution on the dense layout. (s, f) -> (s, f)."""

    def __init__(self) -> None:
        super().__init__()
        self.full = nn.Linear(2 * DIM + len(CENTRES), 2 * DIM)
        self.norm_edges = nn.BatchNorm1d(2 * DIM)
        self.norm_sites = nn.BatchNorm1d(DIM)

    def forward(self, sites: Tensor, gaussians: Tensor, neighbours: Tensor) -> Tensor:
        """Update ``sites`` (s, f)."""
        n, k = neighbours.shape
        pairs = torch.cat([sites.unsqueeze(1).expand(n, k, DIM), sites[neighbours], gaussians], dim=2)
        mapped = self.full(pairs)
        normed = self.norm_edges(mapped.view(-1, 2 * DIM)).view(n, k, 2 * DIM)
        gate, message = normed.chunk(2, dim=2)
        received = (torch.sigmoid(gate) * F.softplus(message)).sum(dim=1)
        return F.softplus(sites + self.norm_sites(received))


class Network(nn.Module):
    """Three convolutions of 64 features, mean over the sites, one hidden layer of 128: 80,769 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(descriptors().shape[1], DIM)
        self.blocks = nn.ModuleList(Convolution() for _ in range(BLOCKS))
        self.conv_to_fc = nn.Linear(DIM, HIDDEN)
        self.fc_out = nn.Linear(HIDDEN, 1)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return one value (c,) per crystal."""
        features = self.embedding(inputs.atoms)
        for block in self.blocks:
            features = block(features, inputs.gaussians, inputs.neighbours)
        pooled = torch.cat([features[sites].mean(dim=0, keepdim=True) for sites in inputs.sites])
        hidden = F.softplus(self.conv_to_fc(F.softplus(pooled)))
        return self.fc_out(hidden).squeeze(1)  # type: ignore[no-any-return]
