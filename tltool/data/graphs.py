"""Crystal graphs of a whole data set as flat arrays, quotient or full.

Sites that message passing on species and distances cannot tell apart are merged into one node with a multiplicity
(colour refinement; the idea of computing on the asymmetric unit is coGN's, doi:10.1039/d4dd00018h), and equal edges
into one node pair with a multiplicity. Both are exact: see ``tests/data/test_graphs.py``. Distances that differ by
less than ``DISTANCE_TOLERANCE`` are one distance, in the full graph too, so that rounding noise of the input does
not decide what is equal. Sizes: c crystals, s sites, n nodes, e edges, d different distances.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from tltool.data import neighbours
from tltool.data.record import Crystal, Floats, Ints
from tltool.errors import ConfigError, DataError

DISTANCE_TOLERANCE = 1e-4
"""Distances of one crystal that follow each other more closely than this (Å) are one distance: their mean."""

_CHUNK = 512
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a crystal becomes a graph; travels with the model.

    ``cutoff`` Å; ``max_neighbours`` nearest per site or None for all; ``shells`` says what becomes of the shell of the
    last one: ``shared``, ``whole`` or ``strict`` (see ``neighbours.find``); ``quotient`` merges equal sites.
    """

    cutoff: float
    max_neighbours: int | None
    shells: str
    quotient: bool

    def __post_init__(self) -> None:
        if not self.cutoff > 0 or (self.max_neighbours is not None and self.max_neighbours < 1):
            raise ConfigError("graph: cutoff and max_neighbours must be positive (max_neighbours may be null).")
        if self.shells not in ("shared", "whole", "strict"):
            raise ConfigError(f"graph.shells={self.shells!r} is not known; use shared, whole or strict.")

    def key(self) -> str:
        """Return a short hash that changes with any setting."""
        text = json.dumps([asdict(self), DISTANCE_TOLERANCE, neighbours.SHELL_TOLERANCE])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def differences(self, other: "Recipe") -> list[str]:
        """Return ``name=ours, theirs`` sentences for settings in which the graphs would differ."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return [f"{name}={mine}, but the source model has {name}={its}" for name, mine, its in pairs if mine != its]


@dataclass(frozen=True)
class GraphTable:
    """Graphs of c crystals as flat arrays; node and distance numbers count from the crystal's first.

    ``first_node`` (c+1,), ``first_distance`` (c+1,), ``first_edge`` (n+1,), ``number`` (n,), ``multiplicity`` (n,),
    ``neighbour`` (e,), ``edge_multiplicity`` (e,), ``distance_index`` (e,), ``distance`` (d,) Å.
    """

    first_node: Ints
    first_distance: Ints
    first_edge: Ints
    number: npt.NDArray[np.uint8]
    multiplicity: npt.NDArray[np.int32]
    neighbour: npt.NDArray[np.int32]
    edge_multiplicity: Floats
    distance_index: npt.NDArray[np.int32]
    distance: Floats

    def __len__(self) -> int:
        return len(self.first_node) - 1

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name, as ``store.write_arrays`` takes them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def build(
    crystals: Iterable[Crystal], recipe: Recipe, progress: Callable[[int], None] = lambda done: None
) -> GraphTable:
    """Return the graphs of ``crystals``; ``progress`` hears how many were done after each block of them."""
    blocks: list[GraphTable] = []
    waiting: list[Crystal] = []
    done = 0
    for crystal in crystals:
        waiting.append(crystal)
        if len(waiting) == _CHUNK:
            blocks.append(_build_block(waiting, recipe))
            progress(done := done + len(waiting))
            waiting = []
    if waiting or not blocks:
        blocks.append(_build_block(waiting, recipe))
        progress(done + len(waiting))
    return _joined(blocks)


def _build_block(crystals: list[Crystal], recipe: Recipe) -> GraphTable:
    found = [neighbours.find(c, recipe.cutoff, recipe.max_neighbours, recipe.shells) for c in crystals]
    sizes = np.array([len(c.numbers) for c in crystals], dtype=np.int64)
    first_site = _starts(sizes)
    n_edges = np.array([len(f.site) for f in found], dtype=np.int64)
    shift = np.repeat(first_site[:-1], n_edges)
    site = _concatenated([f.site for f in found], np.int64) + shift
    other = _concatenated([f.neighbour for f in found], np.int64) + shift
    length = _concatenated([f.distance for f in found], np.float64)
    weight = _concatenated([f.weight for f in found], np.float64)
    numbers = _concatenated([c.numbers for c in crystals], np.int64)
    crystal_of_site = np.repeat(np.arange(len(crystals)), sizes)

    first_distance, distance, which = _different(length, crystal_of_site[site], len(crystals))
    if recipe.quotient:
        node_of_site, representative, multiplicity = _classes(numbers, crystal_of_site, site, other, which, weight)
    else:
        node_of_site = representative = np.arange(len(numbers))
        multiplicity = np.ones(len(numbers), dtype=np.int64)

    chosen = np.zeros(len(numbers), dtype=bool)
    chosen[representative] = True
    kept = chosen[site]
    node, start, which, weight = node_of_site[site[kept]], node_of_site[other[kept]], which[kept], weight[kept]
    crystal_of_node = crystal_of_site[representative]
    first_node = _starts(np.bincount(crystal_of_node, minlength=len(crystals)))
    node, start, which, edge_multiplicity = _merged(node, start, which, weight, recipe.quotient)
    crystal_of_edge = crystal_of_node[node]
    return GraphTable(
        first_node,
        first_distance,
        _starts(np.bincount(node, minlength=len(representative))),
        numbers[representative].astype(np.uint8),
        multiplicity.astype(np.int32),
        (start - first_node[crystal_of_edge]).astype(np.int32),
        edge_multiplicity,
        (which - first_distance[crystal_of_edge]).astype(np.int32),
        distance,
    )


def _different(length: Floats, crystal: Ints, n_crystals: int) -> tuple[Ints, Floats, Ints]:
    """Return where each crystal's different distances begin, their values, and each edge's among them."""
    order = np.lexsort((length, crystal))
    ordered, owner = length[order], crystal[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (np.diff(ordered) > DISTANCE_TOLERANCE) | (np.diff(owner) > 0)
    group = np.cumsum(begins) - 1
    n_groups = int(group[-1]) + 1 if len(group) else 0
    mean = np.bincount(group, ordered, n_groups) / np.bincount(group, minlength=n_groups)
    which = np.empty(len(order), dtype=np.int64)
    which[order] = group
    return _starts(np.bincount(owner[begins], minlength=n_crystals)), mean, which


def _classes(
    numbers: Ints, crystal: Ints, site: Ints, other: Ints, which: Ints, weight: Floats
) -> tuple[Ints, Ints, Ints]:
    """Group the sites of each crystal by colour refinement.

    A site's colour is a 64-bit hash of its species and crystal, then again and again of its colour and the multiset
    of (neighbour's colour, distance, weight), until no group splits. Returns each site's class (classes in the order of
    their first sites), that first site, and the number of sites in the class.
    """
    starts = np.flatnonzero(np.diff(site, prepend=-1))
    receiving = site[starts]
    colour = _mixed(_mixed(numbers.astype(np.uint64)) + crystal.astype(np.uint64))
    distance_word = _mixed(which.astype(np.uint64) + _mixed(weight.view(np.uint64)))
    n_classes = 0
    while True:
        _, first, label, count = np.unique(colour, return_index=True, return_inverse=True, return_counts=True)
        if len(first) == n_classes:
            break
        n_classes = len(first)
        gathered = np.zeros(len(colour), dtype=np.uint64)
        if len(starts):
            gathered[receiving] = np.add.reduceat(_mixed(colour[other] + distance_word), starts)
        colour = _mixed(_mixed(colour) + gathered)
    order = np.argsort(first)
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    return position[label], first[order], count[order]


def _merged(node: Ints, start: Ints, which: Ints, weight: Floats, merge: bool) -> tuple[Ints, Ints, Ints, Floats]:
    """Sort edges by receiving node, then distance, then neighbour; merge equal ones and add up their weights."""
    order = np.lexsort((start, which, node))
    node, start, which = node[order], start[order], which[order]
    new = np.ones(len(node), dtype=bool)
    if merge:
        new[1:] = (np.diff(node) != 0) | (np.diff(start) != 0) | (np.diff(which) != 0)
    begins = np.flatnonzero(new)
    total = np.add.reduceat(weight[order], begins) if len(begins) else weight
    return node[begins], start[begins], which[begins], total


def _joined(blocks: list[GraphTable]) -> GraphTable:
    def plain(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(block, name) for block in blocks])

    def starts(name: str) -> Ints:
        return _starts(np.concatenate([np.diff(getattr(block, name)) for block in blocks]))

    names = [f.name for f in fields(GraphTable)]
    return from_arrays({name: starts(name) if name.startswith("first_") else plain(name) for name in names})


def taken(table: GraphTable, rows: Ints) -> GraphTable:
    """Return the graphs of ``rows`` as a table of their own."""
    first_node, node = _ranges(table.first_node, rows)
    first_edge, edge = _ranges(table.first_edge, node)
    first_distance, which = _ranges(table.first_distance, rows)
    return GraphTable(
        first_node,
        first_distance,
        first_edge,
        table.number[node],
        table.multiplicity[node],
        table.neighbour[edge],
        table.edge_multiplicity[edge],
        table.distance_index[edge],
        table.distance[which],
    )


def _ranges(first: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Return where each of ``rows`` begins once only they are kept, and the places of all that they hold."""
    sizes = first[rows + 1] - first[rows]
    starts = _starts(sizes)
    return starts, np.repeat(first[rows] - starts[:-1], sizes) + np.arange(starts[-1])


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> GraphTable:
    """Return the table that ``GraphTable.arrays`` took apart; raise DataError if an array is missing."""
    missing = [f.name for f in fields(GraphTable) if f.name not in arrays]
    if missing:
        raise DataError(f"The graph file lacks {', '.join(missing)}; delete it and prepare it again.")
    return GraphTable(**{f.name: arrays[f.name] for f in fields(GraphTable)})


def _starts(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _concatenated(parts: list[npt.NDArray[Any]], kind: type) -> npt.NDArray[Any]:
    return np.concatenate(parts).astype(kind) if parts else np.empty(0, dtype=kind)


def _mixed(words: Words) -> Words:
    """Scramble 64-bit words (the finaliser of SplitMix64), so that their sums identify multisets."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
