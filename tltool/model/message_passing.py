"""Define the message-passing operations of encoders and readouts in plain PyTorch.

A graph may replace some of them (``Graph.operations``) by operations with the same results to 1e-6: those of DGL
(``kernels/dgl.py``) or compiled ones (``kernels/install.py``). Sizes as in ``crystal_graph``; f features.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor

from tltool.crystal_graph import Graph, or_one

P = ParamSpec("P")
Operation = Callable[Concatenate[Graph, P], Tensor]


def replaceable(plain: Operation[P]) -> Operation[P]:
    """Return ``plain``, or call the graph's own operation of that name instead if it has one."""
    name = plain.__name__

    @wraps(plain)
    def operation(graph: Graph, /, *given: P.args, **named: P.kwargs) -> Tensor:
        return graph.operations.get(name, plain)(graph, *given, **named)

    return operation


@replaceable
def pair_sum(graph: Graph, at_receiver: Tensor, at_neighbour: Tensor) -> Tensor:
    """Return (e, f): for each edge the sum of its receiver's and its neighbour's vector (n, f)."""
    return at_receiver.index_select(0, graph.receiver).add_(at_neighbour.index_select(0, graph.neighbour))


@replaceable
def receiver_sum(graph: Graph, rows: Tensor) -> Tensor:
    """Return (n, f): the sum of ``rows`` (e, f) over the edges that end in each node."""
    return rows.new_zeros(graph.n_nodes, rows.shape[1]).index_add_(0, graph.receiver, rows)


@replaceable
def receiver_softmax(graph: Graph, scores: Tensor) -> Tensor:
    """Return (e, f): softmax of ``scores`` (e, f) over the edges that end in the same node."""
    index = graph.receiver[:, None].expand_as(scores)
    empty = scores.new_full((graph.n_nodes, scores.shape[1]), -torch.inf)
    top = empty.scatter_reduce(0, index, scores.detach(), "amax")
    powers = (scores - top.index_select(0, graph.receiver)).exp()
    total = powers.new_zeros(graph.n_nodes, powers.shape[1]).index_add_(0, graph.receiver, powers)
    return powers / total.index_select(0, graph.receiver)


@replaceable
def crystal_sum(graph: Graph, rows: Tensor) -> Tensor:
    """Return (c, ...): the sum of ``rows`` (n, ...) over each crystal's nodes."""
    return rows.new_zeros(graph.n_crystals, *rows.shape[1:]).index_add_(0, graph.crystal, rows)


@replaceable
def crystal_edge_sum(graph: Graph, rows: Tensor) -> Tensor:
    """Return (c, f): the sum of ``rows`` (e, f) over each crystal's edges."""
    return rows.new_zeros(graph.n_crystals, rows.shape[1]).index_add_(0, crystal_of_edge(graph), rows)


@replaceable
def crystal_mean(graph: Graph, sites: Tensor) -> Tensor:
    """Return (c, f): the mean of ``sites`` (n, f) over each crystal's sites, nodes weighted by multiplicity."""
    return crystal_sum(graph, sites * graph.multiplicity[:, None]) / graph.n_sites()[:, None]


def edge_sum(graph: Graph, at_receiver: Tensor, at_neighbour: Tensor, at_distance: Tensor) -> Tensor:
    """Return (e, f): for each edge the sum of its receiver's, its neighbour's and its distance's vector.

    ``at_receiver`` and ``at_neighbour`` are (n, f), ``at_distance`` is (d, f). A linear map of three concatenated
    inputs is the sum of three maps; each is computed once per node or distance instead of once per edge.
    """
    return pair_sum(graph, at_receiver, at_neighbour).add_(at_distance.index_select(0, graph.distance_index))


def neighbour_sum(graph: Graph, messages: Tensor) -> Tensor:
    """Return (n, f): the sum of ``messages`` (e, f) into each node, weighted by the multiplicity of their edges."""
    return receiver_sum(graph, messages * graph.edge_multiplicity[:, None])


def edge_softmax(graph: Graph, scores: Tensor) -> Tensor:
    """Return (e, f): softmax of ``scores`` over a node's neighbours, the share of one of those an edge stands for."""
    # Padding stands for no neighbour; it must not turn into NaN before it is multiplied by 0.
    stands_for = graph.edge_multiplicity.clamp_min(1e-30)[:, None]
    return receiver_softmax(graph, scores + stands_for.log()) / stands_for


def neighbour_count(graph: Graph) -> Tensor:
    """Return (n,) float: the number of neighbours of each node."""
    count = graph.edge_multiplicity.new_zeros(graph.n_nodes)
    return graph.once(  # type: ignore[no-any-return]
        "neighbour count", lambda: count.index_add_(0, graph.receiver, graph.edge_multiplicity)
    )


def crystal_of_edge(graph: Graph) -> Tensor:
    """Return (e,) int64: the crystal that each edge belongs to."""
    return graph.once(  # type: ignore[no-any-return]
        "crystal of edge", lambda: graph.crystal.index_select(0, graph.receiver)
    )


def crystal_edge_mean(graph: Graph, received: Tensor) -> Tensor:
    """Return (c, f): the mean over each crystal's edges, from their sums into the nodes (n, f); 0 without an edge."""

    def edge_count() -> Tensor:
        count = crystal_sum(graph, (graph.multiplicity * neighbour_count(graph))[:, None])
        return or_one(count)

    total = crystal_sum(graph, received * graph.multiplicity[:, None])
    return total / graph.once("edge count", edge_count)  # type: ignore[no-any-return]


def crystal_attention(graph: Graph, scores: Tensor, values: Tensor) -> Tensor:
    """Return (c, h, f): the mean of ``values`` (n, h, f) over each crystal's sites, weighted by exp(``scores``).

    ``scores`` are (n, h, 1), or (n, h, f) for a separate weight of every feature.
    """
    top = scores.new_full((graph.n_crystals, *scores.shape[1:]), -torch.inf)
    index = graph.crystal[:, None, None].expand_as(scores)
    top = top.scatter_reduce(0, index, scores.detach(), "amax")
    powers = (scores - top.index_select(0, graph.crystal)).exp() * graph.multiplicity[:, None, None]
    total = crystal_sum(graph, powers)
    return crystal_sum(graph, powers * values) / or_one(total)


def crystal_edge_attention(graph: Graph, scores: Tensor, edges: Tensor) -> Tensor:
    """Return (c, f): the mean of ``edges`` (e, f) over each crystal's edges, weighted by exp(``scores``) (e,).

    A crystal without an edge gets zeros.
    """
    crystal = crystal_of_edge(graph)
    top = scores.new_full((graph.n_crystals,), -torch.inf).scatter_reduce(0, crystal, scores.detach(), "amax")
    powers = (scores - top.index_select(0, crystal)).exp() * graph.edge_weight()
    total = scores.new_zeros(graph.n_crystals).index_add_(0, crystal, powers)
    share = powers / or_one(total).index_select(0, crystal)
    return crystal_edge_sum(graph, share[:, None] * edges)
