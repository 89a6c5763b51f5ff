"""Angles between consecutive edges: the edges of the line graph, whose nodes are the edges of the crystal graph.

An edge from j to i is preceded by every edge from some k to j, including its own reverse. The two edges make the angle
k-j-i. Sizes: e edges, a angles, k different cosines.
"""

from typing import NamedTuple

import numpy as np

from tltool.data.graph import distance_groups
from tltool.data.record import Floats, Ints

COSINE_TOLERANCE = 1e-4
"""Sorted cosines between edges of the same two lengths that differ by less than this become one cosine.

The lengths must be equal, because the cosines of a large crystal are so dense that all would become one.
"""

COSINE_WIDTH = 5e-4
"""Largest difference between two cosines that become one, for any number of cosines between them."""

_STEPS = 2**29
_MASK = 2**31 - 1


class Angles(NamedTuple):
    """Edge ``edge`` (a,), ascending, is preceded by ``preceding`` (a,) at the cosine ``which`` (a,) of ``cosine`` (k,).

    ``first_cosine`` (c+1,) gives the position at which the cosines of each crystal begin.
    """

    edge: Ints
    preceding: Ints
    which: Ints
    first_cosine: Ints
    cosine: Floats


def find(
    vector: Floats, site: Ints, other: Ints, distance_index: Ints, crystal: Ints, first_distance: Ints, n_sites: int
) -> Angles:
    """Return the angles of all edges, sorted by site; an edge is ``vector`` (e, 3) from ``site`` to ``other``.

    ``distance_index`` (e,) says which lengths are equal, counted over all crystals; those of each crystal begin at
    ``first_distance`` (c+1,). ``crystal`` (e,) is ascending.
    """
    degree = np.bincount(site, minlength=n_sites)
    first = np.cumsum(degree) - degree
    count = degree[other]
    edge = np.repeat(np.arange(len(site)), count)
    preceding = np.repeat(first[other] - (np.cumsum(count) - count), count) + np.arange(len(edge))
    unit = vector / np.linalg.norm(vector, axis=1, keepdims=True)
    cosine = -np.einsum("ax,ax->a", unit[edge], unit[preceding])

    n_distances = np.diff(first_distance)
    begin = np.cumsum(n_distances**2) - n_distances**2
    local = distance_index - first_distance[crystal]
    low, high = np.minimum(local[edge], local[preceding]), np.maximum(local[edge], local[preceding])
    pair = begin[crystal][edge] + low * n_distances[crystal][edge] + high
    which, group_first, cosine = _different(cosine, pair)
    return Angles(
        edge, preceding, which, np.searchsorted(crystal[edge[group_first]], np.arange(len(begin) + 1)), cosine
    )


def _different(cosine: Floats, pair: Ints) -> tuple[Ints, Ints, Floats]:
    """Group ``cosine`` (a,) within each ``pair`` of lengths; return group, one angle per group, and its cosine."""
    if int(pair.max(initial=0)) > _MASK:
        pair = np.unique(pair, return_inverse=True)[1]
    # One integer sorts by the pair, then by the cosine in steps of 2e-9: faster than two keys.
    key = (pair << 31) + np.rint((np.clip(cosine, -1.0, 1.0) + 1) * _STEPS).astype(np.int64)
    order = np.argsort(key)
    key = key[order]
    pairs_differ = np.diff(key >> 31) > 0
    begins = distance_groups.begins(key, pairs_differ, tolerance=COSINE_TOLERANCE * _STEPS, width=COSINE_WIDTH * _STEPS)
    which = np.empty(len(key), dtype=np.int64)
    which[order] = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    last = np.append(first, len(key))[1:] - 1
    # The middle of a group, unlike its mean, does not depend on the order of summation.
    middle = ((key[first] & _MASK) + (key[last] & _MASK)) / (2 * _STEPS) - 1
    return which, order[first], middle
