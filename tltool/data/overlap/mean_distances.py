"""Mean distances from each element's sites to their neighbours; small distortions of a crystal change them little.

Average minimum distances (Widdowson and others, doi:10.46793/match.87-3.529W), averaged for each element. They do not
depend on the choice of cell. If sites move by at most d, no distance changes by more than 2 d. Crystals with different
averages are different structures; crystals with equal averages may be the same. Sizes: k elements.
"""

import numpy as np

from tltool.data.graph import neighbours
from tltool.data.record import Crystal, Floats

NEIGHBOURS = 12
SCALE = 15.0
"""Å3 per site, to which cells are scaled, so that a change of volume alone changes nothing."""

_REACH = 30.0  # Å, beyond which a scaled crystal has no neighbour worth counting.


def mean_distances(crystal: Crystal) -> Floats:
    """Return (k, 12) in Å: for each element, by atomic number, the mean distance to its n-th neighbour, n = 1 to 12."""
    found = neighbours.find(scaled(crystal), _REACH, NEIGHBOURS, "strict")
    first = np.searchsorted(found.site, np.arange(len(crystal.numbers)))
    length = np.full((len(crystal.numbers), NEIGHBOURS), _REACH)
    length[found.site, np.arange(len(found.site)) - first[found.site]] = found.distance
    _, element, count = np.unique(crystal.numbers, return_inverse=True, return_counts=True)
    total = np.zeros((len(count), NEIGHBOURS))
    np.add.at(total, element, length)
    return total / count[:, None]


def difference(first: Floats, second: Floats) -> float:
    """Return by how much (Å) crystals of one formula differ: the mean over neighbours, the largest over elements."""
    return float(np.abs(first - second).mean(axis=1).max())


def scaled(crystal: Crystal) -> Crystal:
    """Return ``crystal`` in a cell of ``SCALE`` Å3 per site."""
    factor = (SCALE * len(crystal.numbers) / abs(np.linalg.det(crystal.lattice))) ** (1 / 3)
    return crystal._replace(lattice=crystal.lattice * factor)
