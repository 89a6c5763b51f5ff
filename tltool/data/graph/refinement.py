"""Colour refinement: find the sites, and edges, of a crystal that no message-passing network can tell apart.

A colour is a 64-bit hash. It is hashed repeatedly with the multiset of its connected colours, until no class of equal
colours splits. Sizes: s sites, e edges, a angles.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.data.graph.angles import Angles
from tltool.data.record import Floats, Ints

Words = npt.NDArray[np.uint64]


class Classes(NamedTuple):
    """Class ``of`` each member (classes in order of first members), its ``first`` member, and its size ``members``."""

    of: Ints
    first: Ints
    members: Ints


def alone(n: int) -> Classes:
    """Return ``n`` classes with one member each."""
    return Classes(np.arange(n), np.arange(n), np.ones(n, dtype=np.int64))


def of_sites(numbers: Ints, crystal: Ints, site: Ints, other: Ints, which: Ints, weight: Floats) -> Classes:
    """Group the sites of each crystal that networks of species and distances cannot tell apart.

    ``numbers`` and ``crystal`` (s,); ``site``, ``other``, ``which`` distance and ``weight`` (e,), edges sorted by site.
    The first colour of a site is its species and crystal. Each new colour combines the old one and the multiset of
    (neighbour's colour, distance, weight).
    """
    colour = _mixed(_mixed(numbers.astype(np.uint64)) + crystal.astype(np.uint64))
    edge_word = _edge_words(which, weight)
    n_classes = 0
    while (n := len(np.unique(colour))) != n_classes:
        n_classes = n
        colour = _mixed(_mixed(colour) + _gathered(_mixed(colour[other] + edge_word), site, len(colour)))
    return _classes(colour)


def of_sites_and_edges(
    sites: Classes, site: Ints, other: Ints, which: Ints, weight: Floats, angles: Angles
) -> tuple[Classes, Classes]:
    """Group sites and edges that networks with angles cannot tell apart; finer than ``sites``, without angles.

    The first colour of an edge is made of its two sites, its distance and its weight. Each new colour combines the old
    one, those of its sites, and the multiset of (preceding edge's colour, cosine). The colour of a site combines its
    colour and the multiset of its edges' colours.
    """
    colour = _mixed(sites.of.astype(np.uint64))
    edge_colour = _mixed(_edge_words(which, weight) + _mixed(colour[other]) + colour[site])
    cosine_word = _mixed(angles.which.astype(np.uint64))
    n_classes = (0, 0)
    while (n := (len(np.unique(colour)), len(np.unique(edge_colour)))) != n_classes:
        n_classes = n
        heard = _gathered(_mixed(edge_colour[angles.preceding] + cosine_word), angles.edge, len(site))
        edge_colour = _mixed(_mixed(edge_colour + _mixed(colour[other])) + colour[site] + heard)
        colour = _mixed(_mixed(colour) + _gathered(_mixed(edge_colour), site, len(colour)))
    return _classes(colour), _classes(edge_colour)


def _edge_words(which: Ints, weight: Floats) -> Words:
    return _mixed(which.astype(np.uint64) + _mixed(weight.view(np.uint64)))


def _gathered(words: Words, receiver: Ints, n: int) -> Words:
    """Return (n,): the sum of ``words`` for each receiver; receivers are in ascending order."""
    total = np.zeros(n, dtype=np.uint64)
    starts = np.flatnonzero(np.diff(receiver, prepend=-1))
    if len(starts):
        total[receiver[starts]] = np.add.reduceat(words, starts)
    return total


def _classes(colour: Words) -> Classes:
    _, first, label, count = np.unique(colour, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    return Classes(position[label], first[order], count[order])


def _mixed(words: Words) -> Words:
    """Scramble 64-bit words (the finaliser of SplitMix64), so that their sums identify multisets."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
