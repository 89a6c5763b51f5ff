"""Batches by index arithmetic: a selection of rows from flat arrays, without an object for each crystal.

Everything here is a tensor operation, so a table on a GPU gives batches on that GPU. Sizes as in ``crystal_graph``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.data.graph.crystal_graphs import GraphTable

_OF_EDGES = ("neighbour", "edge_multiplicity", "distance_index", "distance")


class Source(Protocol):
    """A table from which graphs are selected: a ``Table``, or ``padded.Padded``."""

    def select(self, rows: Tensor, /) -> Graph:
        """Return the graphs of ``rows`` (c,) int64 as one batch."""


@dataclass(frozen=True)
class Batch:
    """Labels (c, q) in the unit of each quantity with NaN where absent, the rows (c,) they come from, and the graph.

    The graph is put together when it is asked for: what learns on embeddings never does.
    """

    table: Source
    labels: Tensor
    rows: Tensor

    @cached_property
    def graph(self) -> Graph:
        """The graphs of the rows."""
        return self.table.select(self.rows)


@dataclass(frozen=True)
class Table:
    """A ``GraphTable`` as tensors on one device, ready to be cut into batches (``edge`` offsets per crystal added).

    ``state`` (n, k), ``functional`` (n,), ``potential`` (n, w) and ``conditions`` (n, k) are as in ``Graph``, for
    models that take them.
    """

    first_node: Tensor
    first_distance: Tensor
    first_edge: Tensor
    number: Tensor
    multiplicity: Tensor
    neighbour: Tensor
    edge_multiplicity: Tensor
    distance_index: Tensor
    distance: Tensor
    volume: Tensor
    line: "Table | None" = None
    state: Tensor | None = None
    functional: Tensor | None = None
    potential: Tensor | None = None
    conditions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.first_node) - 1

    def select(self, rows: Tensor) -> Graph:
        """Return the graphs of ``rows`` (c,) int64 as one batch; rows may repeat.

        A small batch costs as much as its number of operations, so few are made, and the host waits for sizes once.
        """
        line = None if self.line is None else self.line.select(rows)
        both = torch.cat([rows, rows + 1])
        nodes = self.first_node.index_select(0, both)
        ragged = torch.stack([nodes, self.first_edge.index_select(0, nodes), self.first_distance.index_select(0, both)])
        begin, end = ragged.view(3, 2, -1).unbind(1)  # of nodes, edges and distances of each crystal: (3, c) each
        count = end - begin
        first = F.pad(count.cumsum(1), (1, 0))  # in the batch: (3, c + 1)
        n_nodes, n_edges, n_distances = first[:, -1].tolist()
        first_node, first_distance = first[0], first[2]
        shift = begin - first[:, :-1]
        place = torch.arange(max(len(rows), n_nodes, n_edges, n_distances), device=rows.device)
        crystal, of_edge = (_repeated(place[: len(rows)], count[k], n) for k, n in enumerate((n_nodes, n_edges)))
        node = place[:n_nodes] + shift[0].index_select(0, crystal)
        edge = place[:n_edges] + shift[1].index_select(0, of_edge)
        spot = place[:n_distances] + _repeated(shift[2], count[2], n_distances)
        first_edge = self.first_edge.index_select(0, node) - shift[1].index_select(0, crystal)
        first_edge = torch.cat([first_edge, first[1, -1:]])
        kind = torch.get_default_dtype()
        return Graph(
            number=self.number.index_select(0, node).long(),
            multiplicity=self.multiplicity.index_select(0, node).to(kind),
            crystal=crystal,
            first_node=first_node,
            first_edge=first_edge,
            receiver=_repeated(place[:n_nodes], first_edge[1:] - first_edge[:-1], n_edges),
            neighbour=self.neighbour.index_select(0, edge) + first_node.index_select(0, of_edge),
            edge_multiplicity=self.edge_multiplicity.index_select(0, edge).to(kind),
            distance_index=self.distance_index.index_select(0, edge) + first_distance.index_select(0, of_edge),
            distance=self.distance.index_select(0, spot).to(kind),
            volume=self.volume.index_select(0, rows).to(kind),
            state=None if self.state is None else self.state[rows],
            functional=None if self.functional is None else self.functional[rows],
            potential=None if self.potential is None else self.potential[rows],
            conditions=None if self.conditions is None else self.conditions[rows],
            line=line,
        )

    def nodes(self, rows: Tensor) -> Tensor:
        """Return where the nodes of ``rows`` stand among those of the table, in the order of ``select``."""
        begin = self.first_node[rows]
        count = self.first_node[rows + 1] - begin
        shift = begin - (count.cumsum(0) - count)
        return torch.repeat_interleave(shift, count) + torch.arange(int(count.sum()), device=rows.device)

    def numbers(self, rows: Tensor) -> Tensor:
        """Return the atomic numbers of all nodes of ``rows``."""
        return self.number[self.nodes(rows)]

    def without_edges(self) -> "Table":
        """Return the same nodes alone, for what learns on features of sites: its batches cost next to nothing."""
        none = {name: getattr(self, name)[:0] for name in _OF_EDGES}
        first = {name: torch.zeros_like(getattr(self, name)) for name in ("first_edge", "first_distance")}
        return replace(self, **none, **first, line=None)

    def to(self, device: torch.device | str) -> "Table":
        """Return the same table on ``device``."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "line"}
        moved = {name: tensor.to(device) for name, tensor in given.items() if tensor is not None}
        return replace(self, **moved, line=None if self.line is None else self.line.to(device))


def table(graphs: GraphTable) -> Table:
    """Return ``graphs`` as tensors on the CPU."""
    own = {f.name: getattr(graphs, f.name) for f in fields(graphs) if f.name != "line"}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in own.items()}
    return Table(**tensors, line=None if graphs.line is None else table(graphs.line))


def evaluation_size(source: Table) -> int:
    """Return how many crystals to evaluate at once: fewer with angles, which are ten times as many as edges."""
    return 512 if source.line is None else 128


def batches(
    source: Table, labels: Tensor, rows: Tensor, size: int, generator: torch.Generator | None
) -> Iterator[Batch]:
    """Cut ``rows`` (r,) into batches of ``size``, shuffled by ``generator`` if one is given.

    ``labels`` (number of records, q).
    """
    for piece in pieces(rows, size, generator):
        yield Batch(source, labels[piece], piece)


def pieces(rows: Tensor, size: int, generator: torch.Generator | None) -> list[Tensor]:
    """Cut ``rows`` (r,) into pieces of ``size``, shuffled by ``generator`` if one is given.

    No row is left out; a last piece of one is joined to the one before it when training (shuffled), since one crystal
    has no spread to normalise by.
    """
    if generator is not None:
        order = torch.randperm(len(rows), generator=generator)
        rows = rows[order.to(rows.device)]
    return cut(rows, size, shuffled=generator is not None)


def cut(rows: Tensor, size: int, *, shuffled: bool) -> list[Tensor]:
    """Cut ``rows`` (..., r) into pieces of ``size`` in their order; see ``pieces``."""
    found = list(torch.split(rows, size, dim=-1))
    if shuffled and len(found) > 1 and found[-1].shape[-1] == 1:
        found[-2:] = [torch.cat(found[-2:], dim=-1)]
    return found


def _repeated(values: Tensor, count: Tensor, total: int) -> Tensor:
    """Return each of ``values`` as often as ``count`` says, ``total`` numbers in all."""
    return torch.repeat_interleave(values, count, output_size=total)
