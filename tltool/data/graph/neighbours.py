"""Periodic neighbours of every site: all within the cutoff, or the k nearest with a rule for the last shell.

The search uses pymatgen's compiled ``find_points_in_spheres``. If the number of neighbours is limited, the sphere
starts at the size that should contain k of them and grows until it does. This is exact, and two to three times less
work than a search of the whole cutoff. Sizes: n sites, e edges.
"""

from typing import NamedTuple

import numpy as np

from tltool.data.record import Crystal, Floats, Ints

SHELL_TOLERANCE = 1e-3
"""Neighbours whose distances differ by less than this (Å) form one shell."""

_PERIODIC = np.ones(3, dtype=np.int64)
_ITSELF = 1e-8
_START = 1.25
_GROWTH = 1.3


class Neighbours(NamedTuple):
    """Edges sorted by receiving site, then distance.

    ``site`` (e,) receives from ``neighbour`` (e,) in the cell ``image`` (e, 3) at ``distance`` (e,) in Å. ``weight``
    (e,) is one, or less if several neighbours share a place.
    """

    site: Ints
    neighbour: Ints
    image: Ints
    distance: Floats
    weight: Floats


def find(crystal: Crystal, cutoff: float, max_neighbours: int | None, shells: str) -> Neighbours:
    """Return the neighbours of every site of ``crystal`` within ``cutoff`` Å.

    ``max_neighbours`` k keeps the k nearest. ``shells`` sets how the shell of the k-th neighbour is treated. ``strict``
    cuts it (by distance, then site), as the published CGCNN code does. ``whole`` keeps it. ``shared`` keeps it, and its
    members share the remaining places, so that weights still add up to k. ``mutual`` keeps it and adds the reverse of
    every edge that has none, as ALIGNN does. A site may have no neighbours, and the elements of a formula have none.
    """
    if crystal.amounts is not None:
        none = np.empty(0, dtype=np.int64)
        return Neighbours(none, none, np.empty((0, 3), dtype=np.int64), np.empty(0), np.empty(0))
    n = len(crystal.numbers)
    frac = crystal.frac % 1.0
    cartesian = np.ascontiguousarray(frac @ crystal.lattice)
    # The search needs positions inside the cell, so images are counted from there.
    if max_neighbours is None:
        found = _within(crystal.lattice, cartesian, cutoff)
    else:
        volume = abs(np.linalg.det(crystal.lattice))
        radius = _START * (3 * (max_neighbours + 1) * volume / (4 * np.pi * n)) ** (1 / 3)
        while True:
            found = _within(crystal.lattice, cartesian, min(radius, cutoff))
            if radius >= cutoff or _complete(found, n, max_neighbours, radius):
                break
            radius *= _GROWTH
    order = np.lexsort((found.neighbour, found.distance, found.site))
    found = _chosen(found, order)
    if max_neighbours is None:
        return found
    first = np.searchsorted(found.site, np.arange(n + 1))
    rank = np.arange(len(found.site)) - first[found.site]
    if shells == "strict":
        return _chosen(found, np.flatnonzero(rank < max_neighbours))
    last = np.minimum(first[:-1] + max_neighbours, first[1:]) - 1
    reach = np.zeros(n)
    has_any = first[1:] > first[:-1]
    reach[has_any] = found.distance[last[has_any]]
    found = _chosen(found, np.flatnonzero(found.distance <= reach[found.site] + SHELL_TOLERANCE))
    if shells == "whole":
        return found
    if shells == "mutual":
        return _with_reverse(found, n)
    outer = found.distance >= reach[found.site] - SHELL_TOLERANCE
    n_outer = np.bincount(found.site[outer], minlength=n)
    n_inner = np.bincount(found.site[~outer], minlength=n)
    # A site with fewer than k neighbours within the cutoff has free places: every neighbour has the weight one.
    share = np.minimum((max_neighbours - n_inner) / np.maximum(n_outer, 1), 1.0)
    return found._replace(weight=np.where(outer, share[found.site], 1.0))


def pairs(crystal: Crystal, reach: float) -> tuple[Ints, Ints, Floats]:
    """Return pairs of sites (p,), (p,) with images closer than ``reach`` Å, and their distances (p,) in Å.

    Each pair occurs in both directions. Two sites at one place are a pair too, and so are a site and its own image. The
    time grows linearly with the number of sites.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    cartesian = np.ascontiguousarray((crystal.frac % 1.0) @ crystal.lattice)
    site, other, image, distance = find_points_in_spheres(
        all_coords=cartesian, center_coords=cartesian, r=reach, pbc=_PERIODIC, lattice=crystal.lattice, tol=_ITSELF
    )
    chosen = (distance < reach) & ((site != other) | (image != 0).any(axis=1))
    return site[chosen], other[chosen], distance[chosen]


def vectors(crystal: Crystal, found: Neighbours) -> Floats:
    """Return (e, 3) in Å: from each edge's receiving site to its neighbour."""
    frac = crystal.frac % 1.0
    return (frac[found.neighbour] + found.image - frac[found.site]) @ crystal.lattice


def _with_reverse(found: Neighbours, n: int) -> Neighbours:
    """Return ``found`` and the reverse of every edge, each once."""
    both = Neighbours(
        np.concatenate([found.site, found.neighbour]),
        np.concatenate([found.neighbour, found.site]),
        np.concatenate([found.image, -found.image]),
        np.tile(found.distance, 2),
        np.tile(found.weight, 2),
    )
    reach = int(np.abs(found.image).max(initial=0))
    key = both.site * n + both.neighbour
    for axis in range(3):
        key = key * (2 * reach + 1) + both.image[:, axis] + reach
    _, once = np.unique(key, return_index=True)
    both = _chosen(both, once)
    return _chosen(both, np.lexsort((both.neighbour, both.distance, both.site)))


def _chosen(found: Neighbours, rows: Ints) -> Neighbours:
    return Neighbours(
        found.site[rows], found.neighbour[rows], found.image[rows], found.distance[rows], found.weight[rows]
    )


def _within(lattice: Floats, cartesian: Floats, radius: float) -> Neighbours:
    from pymatgen.optimization.neighbors import find_points_in_spheres

    site, neighbour, image, distance = find_points_in_spheres(
        all_coords=cartesian, center_coords=cartesian, r=float(radius), pbc=_PERIODIC, lattice=lattice, tol=_ITSELF
    )
    other = distance > _ITSELF
    distance = distance[other]
    return Neighbours(site[other], neighbour[other], image[other].astype(np.int64), distance, np.ones(len(distance)))


def _complete(found: Neighbours, n: int, k: int, radius: float) -> bool:
    """Return whether every site has k neighbours that are a whole shell inside ``radius``."""
    inside = found.site[found.distance < radius - SHELL_TOLERANCE]
    return bool((np.bincount(inside, minlength=n) >= k).all())
