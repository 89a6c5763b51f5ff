"""Expand the listed sites of a file by its symmetry operations to all sites of the cell, each once.

Sizes: n listed sites, m operations.
"""

import numpy as np

from tltool.data import structure_checks
from tltool.data.record import Crystal, Floats

SAME_SITE = 0.1
"""Images of a site, or listed sites, with a smaller distance (Å) are one site: coordinates may be rounded."""

_IDENTITY = np.eye(4)


class SharedPlaceError(Exception):
    """Sites of different elements have the same position; ``numbers`` are their atomic numbers."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} {other}")
        self.numbers = one, other


def expanded(crystal: Crystal, operations: Floats) -> Crystal:
    """Return ``crystal`` with all images of its sites under ``operations`` (m, 4, 4), each position once.

    Raise SharedPlaceError if sites of different elements have the same position.
    """
    m = len(operations)
    if m == 1 and (operations[0] == _IDENTITY).all():
        frac, numbers = crystal.frac % 1.0, crystal.numbers
    else:
        frac, numbers = _images(crystal, operations), np.repeat(crystal.numbers, m)
    found = Crystal(crystal.lattice, frac, numbers)
    site, other, _ = structure_checks.near_pairs(found, SAME_SITE)
    if len(site):
        clash = numbers[site] != numbers[other]
        if clash.any():
            worst = int(clash.argmax())
            raise SharedPlaceError(int(numbers[site[worst]]), int(numbers[other[worst]]))
        later = np.unique(other[site < other])
        keep = np.ones(len(numbers), dtype=bool)
        keep[later] = False
        found = Crystal(crystal.lattice, frac[keep], numbers[keep])
    return found


def _images(crystal: Crystal, operations: Floats) -> Floats:
    """Return the images (n * m, 3) of all sites, site by site, with exact special positions."""
    turn, shift = operations[:, :3, :3], operations[:, :3, 3]
    images = np.einsum("mij,nj->nmi", turn, crystal.frac) + shift
    offset = images - crystal.frac[:, None]
    offset -= np.rint(offset)
    vector = offset @ crystal.lattice
    fixing = np.einsum("nmi,nmi->nm", vector, vector) < SAME_SITE**2
    # The mean puts 0.3333 on 1/3: a rounded special position is made exact, and its images fall together.
    mean = np.einsum("nmi,nm->ni", offset, fixing) / np.maximum(fixing.sum(axis=1, keepdims=True), 1)
    exact = crystal.frac + mean
    found: Floats = (np.einsum("mij,nj->nmi", turn, exact) + shift).reshape(-1, 3) % 1.0
    return found
