"""Compute ALIGNN with hand-written backward passes that store few tensors.

m_ij = A x_i + B x_j + C y_ij is the gate of the message V x_j, and y_ij' = y_ij + SiLU(N(m_ij)) (Bresson and Laurent,
arXiv:1711.07553). The graph may be a line graph: nodes are edges then, and edges angles. Edge and angle features begin
as functions of the distance and the cosine alone, so up to the first convolution they are computed once per different
one. Edges are taken in pieces that stay in the processor's cache. Of what has the size edges x features, only the edges
that came in are kept for the backward pass, or not even those (``alignn_recompute.py``); it computes the rest again.
Sizes as in ``crystal_graph``; f features, p edges of a piece.
"""

from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_fwd
from torch.autograd.function import once_differentiable

from tltool.crystal_graph import Graph
from tltool.errors import ConfigError
from tltool.model import all_reduce
from tltool.model.encoders.alignn import ALIGNN, EPS, NO_ANGLES, Block, EdgeGated, Layer
from tltool.model.kernels import alignn_recompute, chunks, norm_silu
from tltool.model.kernels.alignn_recompute import Edges, Maps, Update
from tltool.model.norm import WeightedBatchNorm

_LEARNED = len(Maps._fields) + 2


def layer(module: Layer, rows: Tensor, weights: Tensor) -> Tensor:
    """Compute ``Layer.forward``."""
    return norm_silu.norm_silu(rows, weights, module.linear, module.norm)


def encode(encoder: ALIGNN, graph: Graph) -> list[Tensor]:
    """Compute ``ALIGNN.forward``."""
    if graph.line is None:
        raise ConfigError(NO_ANGLES)
    sites = encoder.embedding(encoder.table.index_select(0, graph.number), graph.multiplicity)
    edges: Edges | None = Edges(encoder.distances(graph), by_distance=True)
    angles: Edges | None = Edges(encoder.angles(graph.line), by_distance=True)
    levels = [sites]
    for block in encoder.blocks:
        if isinstance(block, Block) and edges is not None:
            sites, edges, angles = _block(block, sites, edges, angles, graph)
            levels.append(sites)
    return levels


def _block(
    block: Block, sites: Tensor, edges: Edges, angles: Edges | None, graph: Graph
) -> tuple[Tensor, Edges | None, Edges | None]:
    sites, found = _edge_gated(block.two_body, sites, edges, graph, keep=True)
    if block.three_body is not None and graph.line is not None and found is not None and angles is not None:
        rows, angles = _edge_gated(block.three_body, found.rows, angles, graph.line, keep=False)
        found = Edges(rows)
    return sites, found, angles


def _edge_gated(
    module: EdgeGated, nodes: Tensor, edges: Edges, graph: Graph, *, keep: bool
) -> tuple[Tensor, Edges | None]:
    """Update nodes and edges; unless ``keep``, only another of this kind can read those, see ``convolved``."""
    parts = (module.receiver, module.neighbour, module.edge, module.message)
    maps = Maps(*(table for part in parts for table in (part.weight, part.bias)))
    received, edges_out = convolved(graph, nodes, edges, maps, module.norm_edges, keep)
    nodes = norm_silu.norm_silu(
        nodes, graph.multiplicity, module.node, module.norm_nodes, added=received, residual=True
    )
    return nodes, edges_out


def convolved(
    graph: Graph, nodes: Tensor, edges: Edges, maps: Maps, norm: WeightedBatchNorm | None, keep: bool
) -> tuple[Tensor, Edges | None]:
    """Return (n, f), the mean of V x_j over the neighbours j with weights sigmoid(m), and the new edges.

    ``nodes`` x (n, f), ``edges`` y; without a ``norm`` N edges end here. Unless ``keep``, the new ones are not kept for
    the backward pass, and nothing but this function can read them.
    """
    share: Tensor | None = None
    fixed: tuple[Tensor | None, Tensor | None, float] = (None, None, 0.0)
    scaling: tuple[Tensor | None, Tensor | None] = (None, None)
    if norm is not None:
        weight = graph.edge_weight()
        total = (all_reduce.total(weight.sum()) if norm.training else weight.sum()).clamp_min(1.0)
        share = weight / total if norm.training else None
        fixed, scaling = (norm.mean, norm.variance, norm.eps), (norm.scale, norm.bias)
    flowing = edges.rows if edges.token is None else edges.token
    given = graph, edges, keep, share, *fixed, nodes, flowing, *maps, *scaling
    received, flowing, rows, mean, variance, factor = _Convolution.apply(*given)  # type: ignore[no-untyped-call]
    if norm is None:
        return received, None
    if norm.training:
        norm.remember(mean, variance, total)
    if keep or not torch.is_grad_enabled():
        return received, Edges(flowing if keep else rows)
    # No gradient goes by what makes them again: the token stands for that.
    update = Update(Maps(*(table.detach() for table in maps)), nodes.detach(), mean, factor, norm.bias.detach())
    first = edges.rows.detach() if edges.first is None else edges.first
    return received, Edges(rows, False, flowing, first, (*edges.updates, update))


class _Convolution(torch.autograd.Function):
    """Gives the mean; new edges if they are kept, else a token for them, and them; mean, variance and factor of N."""

    @staticmethod
    @custom_fwd(device_type="cuda", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        graph: Graph,
        edges: Edges,
        keep: bool,
        share: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        nodes: Tensor,
        flowing: Tensor,
        *learned: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Take edges by their rows; ``flowing`` is what gradients by them go by."""
        maps, scale, bias = Maps(*learned[:-2]), *learned[-2:]
        y = alignn_recompute.reader(graph, edges.rows, edges.by_distance)
        parts = alignn_recompute.parts_of(maps, nodes, edges.rows if edges.by_distance else None)
        message = torch.addmm(maps.message_bias, nodes, maps.message.t())
        total, received, count = torch.zeros_like(message), torch.zeros_like(message), len(graph.receiver)
        new = None if scale is None else nodes.new_empty(count, nodes.shape[1])
        for piece in chunks.of(nodes, count):
            receiver, neighbour = graph.receiver[piece], graph.neighbour[piece]
            rows = None if edges.by_distance else y(piece)
            m = alignn_recompute.sums(graph, parts, rows, piece, None if new is None else new[piece])
            opened = torch.sigmoid(m).mul_(graph.edge_multiplicity[piece, None])
            total.index_add_(0, receiver, opened)
            received.index_add_(0, receiver, opened.mul_(message.index_select(0, neighbour)))
        inverse = total.add_(EPS).reciprocal_()
        received *= inverse
        root = factor = None
        if new is not None:
            if share is not None:
                mean, variance = norm_silu.mean_and_variance(new, share)
            root = torch.rsqrt(variance + eps)
            factor = root * scale
            for piece in chunks.of(new):
                norm_silu.applied(new[piece].sub_(mean), factor, bias).add_(y(piece))
        # The last to read edges that can be made again holds them until its backward pass, and uses their place there.
        ctx.rows = edges.rows if edges.token is not None and new is None else None
        source = edges.rows if edges.first is None else edges.first
        updates = alignn_recompute.flat(edges.updates)
        ctx.save_for_backward(nodes, source, received, inverse, share, mean, root, *learned, *updates)
        ctx.graph, ctx.by_distance, ctx.own = (
            graph,
            edges.by_distance or edges.token is not None,
            edges.token is not None,
        )
        ctx.set_materialize_grads(False)
        if new is None:
            return received, None, None, None, None, None
        # An input must not come out as it is.
        used = (mean, variance) if share is not None else (mean.clone(), variance.clone())
        if keep:
            ctx.mark_non_differentiable(*used, factor)
            return received, new, None, *used, factor
        ctx.mark_non_differentiable(new, *used, factor)
        return received, new.new_zeros(()).expand_as(new), new, *used, factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_received: Tensor | None, d_new: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """Return the gradients by nodes, edges and what is learned."""
        nodes, source, received, inverse, share, mean, root, *tables = ctx.saved_tensors
        maps, (scale, bias) = Maps(*tables[: _LEARNED - 2]), tables[_LEARNED - 2 : _LEARNED]
        updates = alignn_recompute.unflat(tables[_LEARNED:])
        graph, count = ctx.graph, len(ctx.graph.receiver)
        rows, ctx.rows = ctx.rows, None
        y = alignn_recompute.reader(graph, source, ctx.by_distance, updates)
        if rows is not None:
            y = alignn_recompute.reader(graph, rows, False)
        by_distance = ctx.by_distance and not updates
        parts = alignn_recompute.parts_of(maps, nodes, source if by_distance else None)
        message = torch.addmm(maps.message_bias, nodes, maps.message.t())
        scaled = torch.zeros_like(message) if d_received is None else d_received * inverse
        d_message, d_receiver, d_neighbour = (torch.zeros_like(message) for _ in range(3))
        d_edge, d_norm, d_table = torch.zeros_like(maps.edge), nodes.new_zeros(2, nodes.shape[1]), None
        if by_distance:
            d_rows, d_table = torch.zeros_like(source), torch.zeros_like(source)
        elif ctx.own and d_new is not None:
            d_rows = d_new  # made by this function for the next that reads the token, so free to be overwritten
        else:
            d_rows = nodes.new_empty(count, nodes.shape[1]) if rows is None else rows
        gates = None
        if d_new is not None and share is not None:
            # Made once for both rounds: of their size there is nothing else here but ``d_new``.
            gates = torch.empty_like(d_new)
            for piece in chunks.of(d_new):
                m = alignn_recompute.sums(graph, parts, None if by_distance else y(piece), piece, gates[piece])
                centred = (m - mean).mul_(root)
                _collect(d_norm, centred, norm_silu.slopes(centred, scale, bias, d_new[piece]))
        through_norm = d_norm if gates is None else all_reduce.total(d_norm)
        for piece in chunks.of(nodes, count):
            receiver, neighbour = graph.receiver[piece], graph.neighbour[piece]
            found = None if by_distance else y(piece)
            m = alignn_recompute.sums(graph, parts, found, piece) if gates is None else gates[piece]
            opened = torch.sigmoid(m)
            through = scaled.index_select(0, receiver).mul_(graph.edge_multiplicity[piece, None]).mul_(opened)
            d_message.index_add_(0, neighbour, through)
            # What a gate gains: how far the message it lets in stands from the mean.
            through *= message.index_select(0, neighbour).sub_(received.index_select(0, receiver))
            flow = through.mul_(opened.neg_().add_(1))
            if d_new is not None:
                centred = m.sub_(mean).mul_(root)
                slope = norm_silu.slopes(centred, scale, bias, d_new[piece])
                if share is None:
                    _collect(d_norm, centred, slope)
                else:
                    # What flows through mean and variance.
                    slope -= torch.addcmul(through_norm[1], centred, through_norm[0]).mul_(share[piece, None])
                flow.addcmul_(slope, root * scale)
            d_receiver.index_add_(0, receiver, flow)
            d_neighbour.index_add_(0, neighbour, flow)
            if d_table is not None:
                d_table.index_add_(0, graph.distance_index[piece], flow)
                if d_new is not None:
                    d_rows.index_add_(0, graph.distance_index[piece], d_new[piece])
                continue
            d_edge.addmm_(flow.t(), y(piece) if found is None else found)
            if d_rows is d_new:
                d_rows[piece].addmm_(flow, maps.edge)
            else:
                torch.mm(flow, maps.edge, out=d_rows[piece])
                if d_new is not None:
                    d_rows[piece] += d_new[piece]
        if d_table is not None:
            d_edge = d_table.t() @ source
            d_rows.addmm_(d_table, maps.edge)
        d_nodes = (d_receiver @ maps.receiver).addmm_(d_neighbour, maps.neighbour).addmm_(d_message, maps.message)
        d_bias = d_receiver.sum(0)
        d_maps = (
            d_receiver.t() @ nodes, d_bias, d_neighbour.t() @ nodes, d_bias, d_edge, d_bias,
            d_message.t() @ nodes, d_message.sum(0),
        )  # fmt: skip
        return *(None,) * 7, d_nodes, d_rows, *d_maps, *((None, None) if scale is None else d_norm.unbind())


def _collect(d_norm: Tensor, centred: Tensor, slope: Tensor) -> None:
    """Add to the gradients by scale and bias (2, f) those of a piece: ``slope`` (p, f) is that of its N(m)."""
    d_norm[0] += (centred * slope).sum(0)
    d_norm[1] += slope.sum(0)
