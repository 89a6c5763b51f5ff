"""Crystal graphs of a whole data set as flat arrays, as quotient graphs or full graphs.

Sites that message passing on species and distances cannot tell apart are merged into one node with a multiplicity
(colour refinement; the idea of computing on the asymmetric unit comes from coGN, doi:10.1039/d4dd00018h). Equal edges
are merged into one edge with a multiplicity. Both steps are exact: see ``tests/data/graph/test_crystal_graphs.py``.
Distances that differ by less than ``DISTANCE_TOLERANCE`` become one distance, in the full graph too, so that rounding
errors of the input do not decide which sites are equal. No distance changes by more than ``DISTANCE_WIDTH``. A formula
without a structure has one node for each element, with the amount as multiplicity, and no edges. Sizes: c crystals, s
sites, n nodes, e edges, d different distances.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.data.graph import angles, distance_groups, neighbours, refinement
from tltool.data.record import Crystal, Floats, Ints
from tltool.errors import ConfigError, DamagedError

DISTANCE_TOLERANCE = 1e-4
"""Sorted distances of one crystal that differ by less than this (Å) become one distance, their mean."""

DISTANCE_WIDTH = 5e-4
"""Largest difference (Å) between two distances that become one, for any number of distances between them."""

_SCHEMA = 3
_CHUNK = 512
_CHUNK_WITH_ANGLES = 64


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Settings that turn a crystal into a graph; saved with the model.

    ``cutoff`` in Å; ``max_neighbours`` nearest per site, or None for all. ``shells`` sets how the shell of the last
    neighbour is treated: ``shared``, ``whole``, ``mutual`` or ``strict`` (see ``neighbours.find``). ``quotient`` merges
    equal sites. ``angles`` adds the line graph; a saved model without this key has no angles.
    """

    cutoff: float
    max_neighbours: int | None
    shells: str
    quotient: bool
    angles: bool = False

    def __post_init__(self) -> None:
        if not self.cutoff > 0 or (self.max_neighbours is not None and self.max_neighbours < 1):
            raise ConfigError("graph: cutoff and max_neighbours must be positive (max_neighbours may be null).")
        if self.shells not in ("shared", "whole", "mutual", "strict"):
            raise ConfigError(f"graph.shells={self.shells!r} is not known; use shared, whole, mutual or strict.")

    def key(self) -> str:
        """Return a short hash that changes with every setting."""
        facts = [DISTANCE_TOLERANCE, neighbours.SHELL_TOLERANCE, angles.COSINE_TOLERANCE, _SCHEMA]
        facts += [DISTANCE_WIDTH, angles.COSINE_WIDTH]
        text = json.dumps([asdict(self), *facts])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def differences(self, other: "GraphSettings") -> list[str]:
        """Return ``name=ours, theirs`` sentences for the settings in which two graphs would differ."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return [f"{name}={mine}, but the source model has {name}={its}" for name, mine, its in pairs if mine != its]


@dataclass(frozen=True)
class GraphTable:
    """Graphs of c crystals as flat arrays; node and distance numbers count from the first of each crystal.

    ``first_node`` (c+1,), ``first_distance`` (c+1,), ``first_edge`` (n+1,), ``number`` (n,), ``multiplicity`` (n,),
    ``neighbour`` (e,), ``edge_multiplicity`` (e,), ``distance_index`` (e,), ``distance`` (d,) in Å, ``volume`` (c,) in
    Å3 per site, NaN for a formula. ``line`` is the line graph if the settings ask for angles: its nodes are the edges,
    its edges are the angles between an edge and an edge that precedes it, and its distances are their cosines.
    """

    first_node: Ints
    first_distance: Ints
    first_edge: Ints
    number: npt.NDArray[np.uint8]
    multiplicity: npt.NDArray[Any]
    neighbour: npt.NDArray[np.int32]
    edge_multiplicity: Floats
    distance_index: npt.NDArray[np.int32]
    distance: Floats
    volume: Floats
    line: "GraphTable | None" = None

    def __len__(self) -> int:
        return len(self.first_node) - 1

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name for ``store.write_arrays``; names of the line graph begin with ``line_``."""
        own = {name: getattr(self, name) for name in _NAMES}
        line = {} if self.line is None else self.line.arrays()
        return own | {_LINE + name: array for name, array in line.items()}


_NAMES = [f.name for f in fields(GraphTable) if f.name != "line"]
_LINE = "line_"


def build(
    crystals: Iterable[Crystal], graph_settings: GraphSettings, progress: Callable[[int], None] = lambda done: None
) -> GraphTable:
    """Return the graphs of ``crystals``; ``progress`` is called with the number done after each block of crystals."""
    blocks: list[GraphTable] = []
    waiting: list[Crystal] = []
    done = 0
    for crystal in crystals:
        waiting.append(crystal)
        if len(waiting) == (_CHUNK_WITH_ANGLES if graph_settings.angles else _CHUNK):
            blocks.append(_build_block(waiting, graph_settings))
            progress(done := done + len(waiting))
            waiting = []
    if waiting or not blocks:
        blocks.append(_build_block(waiting, graph_settings))
        progress(done + len(waiting))
    return _joined(blocks)


class _Full(NamedTuple):
    """A graph without merging: ``crystal`` and ``number`` of its nodes (n,); edges (e,) sorted by receiver."""

    crystal: Ints
    number: Ints
    receiver: Ints
    other: Ints
    which: Ints
    weight: Floats
    first_distance: Ints
    distance: Floats
    volume: Floats


def _build_block(crystals: list[Crystal], graph_settings: GraphSettings) -> GraphTable:
    found = [
        neighbours.find(c, graph_settings.cutoff, graph_settings.max_neighbours, graph_settings.shells)
        for c in crystals
    ]
    sizes = np.array([len(c.numbers) for c in crystals], dtype=np.int64)
    shift = np.repeat(_starts(sizes)[:-1], [len(f.site) for f in found])
    site = _concatenated([f.site for f in found], np.int64) + shift
    other = _concatenated([f.neighbour for f in found], np.int64) + shift
    length = _concatenated([f.distance for f in found], np.float64)
    weight = _concatenated([f.weight for f in found], np.float64)
    numbers = _concatenated([c.numbers for c in crystals], np.int64)
    crystal = np.repeat(np.arange(len(crystals)), sizes)
    first_distance, distance, which = _different(length, crystal[site], len(crystals))
    cells = [np.nan if c.amounts is not None else abs(np.linalg.det(c.lattice)) for c in crystals]
    volume = np.array(cells, dtype=np.float64) / sizes
    full = _Full(crystal, numbers, site, other, which, weight, first_distance, distance, volume)
    sites = refinement.alone(len(numbers))
    counts = _amounts(crystals)
    kinds = np.arange(len(site))
    if graph_settings.quotient:
        sites = refinement.of_sites(numbers, crystal, site, other, which, weight)
        kinds = np.zeros(len(site), dtype=np.int64)
    if not graph_settings.angles:
        return _reduced(full, sites, _multiplicity(sites, counts), kinds)[0]
    vector = np.concatenate([np.empty((0, 3)), *map(neighbours.vectors, crystals, found)])
    pairs = angles.find(vector, site, other, which, crystal[site], first_distance, len(numbers))
    if graph_settings.quotient:
        sites, edges = refinement.of_sites_and_edges(sites, site, other, which, weight, pairs)
        kinds = edges.of
    table, first = _reduced(full, sites, _multiplicity(sites, counts), kinds)
    return replace(table, line=_line(full, pairs, table, first, kinds, graph_settings.quotient))


def _amounts(crystals: list[Crystal]) -> Floats | None:
    """Return (s,): how many atoms each element of a formula represents; None if all records are crystals."""
    if all(c.amounts is None for c in crystals):
        return None
    return np.concatenate([np.ones(len(c.numbers)) if c.amounts is None else c.amounts for c in crystals])


def _multiplicity(sites: refinement.Classes, amounts: Floats | None) -> npt.NDArray[Any]:
    """Return how many sites each class represents, as a whole number for crystals."""
    return sites.members.astype(np.int32) if amounts is None else sites.members * amounts[sites.first]


def _line(full: _Full, pairs: angles.Angles, table: GraphTable, first: Ints, kinds: Ints, quotient: bool) -> GraphTable:
    """Return the line graph of ``table``, whose edges are represented by the edges ``first`` of the full graph."""
    place = np.empty(int(kinds.max(initial=-1)) + 1, dtype=np.int64)
    place[kinds[first]] = np.arange(len(first))
    weight = full.weight[pairs.preceding]
    crystal, number = full.crystal[full.receiver], np.zeros(len(kinds), dtype=np.int64)
    cosines = (pairs.first_cosine, pairs.cosine)
    line = _Full(crystal, number, pairs.edge, pairs.preceding, pairs.which, weight, *cosines, full.volume)
    stands_for = np.repeat(table.multiplicity, np.diff(table.first_edge)) * table.edge_multiplicity
    same = np.zeros(len(weight), dtype=np.int64) if quotient else np.arange(len(weight))
    return _reduced(line, refinement.Classes(place[kinds], first, np.bincount(place[kinds])), stands_for, same)[0]


def _reduced(
    full: _Full, nodes: refinement.Classes, multiplicity: npt.NDArray[Any], kinds: Ints
) -> tuple[GraphTable, Ints]:
    """Keep one node of each class, and merge its edges that agree in distance, neighbour's class and kind.

    Edges are sorted by receiving node, then distance, then neighbour. Also return ``first`` (e,), the edge of ``full``
    that represents each edge.
    """
    chosen = np.zeros(len(full.crystal), dtype=bool)
    chosen[nodes.first] = True
    kept = np.flatnonzero(chosen[full.receiver])
    node, start, which = nodes.of[full.receiver[kept]], nodes.of[full.other[kept]], full.which[kept]
    order = np.lexsort((kinds[kept], start, which, node))
    kept, node, start, which = kept[order], node[order], start[order], which[order]
    new = np.ones(len(node), dtype=bool)
    new[1:] = (np.diff(node) != 0) | (np.diff(start) != 0) | (np.diff(which) != 0) | (np.diff(kinds[kept]) != 0)
    begins = np.flatnonzero(new)
    weight = np.add.reduceat(full.weight[kept], begins) if len(begins) else full.weight[kept]
    crystal = full.crystal[nodes.first]
    first_node = _starts(np.bincount(crystal, minlength=len(full.first_distance) - 1))
    of_edge = crystal[node[begins]]
    table = GraphTable(
        first_node,
        full.first_distance,
        _starts(np.bincount(node[begins], minlength=len(nodes.first))),
        full.number[nodes.first].astype(np.uint8),
        multiplicity,
        (start[begins] - first_node[of_edge]).astype(np.int32),
        weight,
        (which[begins] - full.first_distance[of_edge]).astype(np.int32),
        full.distance,
        full.volume,
    )
    return table, kept[begins]


def _different(length: Floats, crystal: Ints, n_crystals: int) -> tuple[Ints, Floats, Ints]:
    """Return the start of each crystal's different distances, their values, and the distance number of each edge."""
    order = np.lexsort((length, crystal))
    ordered, owner = length[order], crystal[order]
    begins = distance_groups.begins(ordered, np.diff(owner) > 0, tolerance=DISTANCE_TOLERANCE, width=DISTANCE_WIDTH)
    group = np.cumsum(begins) - 1
    n_groups = int(group[-1]) + 1 if len(group) else 0
    mean = np.bincount(group, ordered, n_groups) / np.bincount(group, minlength=n_groups)
    which = np.empty(len(order), dtype=np.int64)
    which[order] = group
    return _starts(np.bincount(owner[begins], minlength=n_crystals)), mean, which


def _joined(blocks: list[GraphTable]) -> GraphTable:
    """Concatenate ``blocks``, and their line graphs if they have them."""

    def plain(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(block, name) for block in blocks])

    def starts(name: str) -> Ints:
        return _starts(np.concatenate([np.diff(getattr(block, name)) for block in blocks]))

    arrays = {name: starts(name) if name.startswith("first_") else plain(name) for name in _NAMES}
    lines = [block.line for block in blocks if block.line is not None]
    return replace(from_arrays(arrays), line=_joined(lines) if lines else None)


def taken(table: GraphTable, rows: Ints) -> GraphTable:
    """Return the graphs of ``rows`` as a new table."""
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
        table.volume[rows],
        None if table.line is None else taken(table.line, rows),
    )


def _ranges(first: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Return the start of each of ``rows`` after only these are kept, and the positions of all their entries."""
    sizes = first[rows + 1] - first[rows]
    starts = _starts(sizes)
    return starts, np.repeat(first[rows] - starts[:-1], sizes) + np.arange(starts[-1])


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> GraphTable:
    """Return the table from the arrays of ``GraphTable.arrays``; raise DataError if an array is missing."""
    line = {name.removeprefix(_LINE): array for name, array in arrays.items() if name.startswith(_LINE)}
    missing = [name for name in _NAMES if name not in arrays]
    if missing:
        raise DamagedError(f"The graph file lacks {', '.join(missing)}; delete it and prepare it again.")
    own: dict[str, Any] = {name: arrays[name] for name in _NAMES}
    return GraphTable(**own, line=from_arrays(line) if line else None)


def _starts(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _concatenated(parts: list[npt.NDArray[Any]], kind: type) -> npt.NDArray[Any]:
    return np.concatenate(parts).astype(kind) if parts else np.empty(0, dtype=kind)
