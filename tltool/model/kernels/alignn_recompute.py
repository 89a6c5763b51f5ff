"""Recompute edge features in the backward pass, piece by piece, instead of storing them.

On a line graph edges are angles, ten times as many as nodes, and their features after every layer would be most of the
memory of training. They follow from the first ones, one row per cosine, and from the nodes of each layer. Automatic
differentiation gets a token in their place, of their shape and without storage.
Sizes as in ``crystal_graph``; f features, p edges of a piece.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tltool.crystal_graph import Graph
from tltool.model.kernels import norm_silu

Read = Callable[[slice], Tensor]


class Maps(NamedTuple):
    """Weights (f, f) and biases (f,) of m_ij = A x_i + B x_j + C y_ij and of the message V x_j."""

    receiver: Tensor
    receiver_bias: Tensor
    neighbour: Tensor
    neighbour_bias: Tensor
    edge: Tensor
    edge_bias: Tensor
    message: Tensor
    message_bias: Tensor


class Update(NamedTuple):
    """What a layer did to edges: y + SiLU((m - ``mean``) ``factor`` + ``bias``), m from maps and ``nodes`` (n, f)."""

    maps: Maps
    nodes: Tensor
    mean: Tensor
    factor: Tensor
    bias: Tensor


def flat(updates: Sequence[Update]) -> list[Tensor]:
    """Return all tensors of ``updates`` in a row, as they are kept for a backward pass."""
    return [table for update in updates for table in (*update.maps, *update[1:])]


def unflat(tables: Sequence[Tensor]) -> list[Update]:
    """Return the updates that ``flat`` took apart."""
    n = len(Maps._fields)
    step = n + len(Update._fields) - 1
    return [Update(Maps(*tables[k : k + n]), *tables[k + n : k + step]) for k in range(0, len(tables), step)]


@dataclass(frozen=True)
class Edges:
    """Edge features ``rows``: (e, f), or (d, f) if ``by_distance``, one row for each different distance.

    With a ``token`` (e, f) they are no part of automatic differentiation and can be made again: from the ``first``
    (d, f), which were by distance, and the ``updates`` since.
    """

    rows: Tensor
    by_distance: bool = False
    token: Tensor | None = None
    first: Tensor | None = None
    updates: tuple[Update, ...] = ()


class Parts(NamedTuple):
    """What m is the sum of: A x and B x (n, f) with all biases, and C y: by distance (d, f), or by C itself (f, f)."""

    at_receiver: Tensor
    at_neighbour: Tensor
    at_distance: Tensor | None
    edge: Tensor


def parts_of(maps: Maps, nodes: Tensor, by_distance: Tensor | None) -> Parts:
    """Return the parts of m for ``nodes`` (n, f); edges may be known ``by_distance`` (d, f)."""
    bias = maps.receiver_bias + maps.neighbour_bias + maps.edge_bias
    at_distance = None if by_distance is None else by_distance @ maps.edge.t()
    return Parts(torch.addmm(bias, nodes, maps.receiver.t()), nodes @ maps.neighbour.t(), at_distance, maps.edge)


def sums(graph: Graph, parts: Parts, rows: Tensor | None, piece: slice, out: Tensor | None = None) -> Tensor:
    """Return m (p, f) of the edges in ``piece``, which have ``rows`` (p, f) unless they are known by distance."""
    if parts.at_distance is None:
        m = torch.mm(rows, parts.edge.t(), out=out)  # type: ignore[arg-type]
    else:
        m = torch.index_select(parts.at_distance, 0, graph.distance_index[piece], out=out)
    m += parts.at_receiver.index_select(0, graph.receiver[piece])
    m += parts.at_neighbour.index_select(0, graph.neighbour[piece])
    return m


def reader(graph: Graph, rows: Tensor, by_distance: bool, updates: Sequence[Update] = ()) -> Read:
    """Return what gives the features (p, f) of the edges in a piece: ``rows`` as in ``Edges``, after ``updates``."""
    if not by_distance:
        return lambda piece: rows[piece]
    parts = [parts_of(update.maps, update.nodes, None if k else rows) for k, update in enumerate(updates)]

    def read(piece: slice) -> Tensor:
        found = rows.index_select(0, graph.distance_index[piece])
        for update, part in zip(updates, parts, strict=True):
            m = sums(graph, part, found, piece)
            found += norm_silu.applied(m.sub_(update.mean), update.factor, update.bias)
        return found

    return read
