"""Compute the gated sum of CGCNN, including normalisation, with as few passes over the edges as plain PyTorch allows.

sum_j sigmoid(N(z)_gate) softplus(N(z)_message) over the neighbours j of a node, with z = at_receiver + at_neighbour +
at_distance per edge and N weighted batch normalisation. Nothing of size edges x features is computed twice, and the
backward pass is written out: left to automatic differentiation it takes about twice as many passes.
Sizes as in ``crystal_graph``; f features, 2f gates and messages.
"""

import sys
from collections.abc import Callable
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool.crystal_graph import Graph
from tltool.model import all_reduce, message_passing
from tltool.model.encoders.cgcnn import Convolution
from tltool.model.kernels import self_check
from tltool.model.norm import WeightedBatchNorm, single


def convolution(block: Convolution, sites: Tensor, basis: Tensor, graph: Graph, *, triton: bool) -> Tensor:
    """Compute ``Convolution.forward``; with ``triton``, use its kernels if they agree with plain PyTorch."""
    parts = block.receiver(sites), block.neighbour(sites), block.distance(basis)
    received = gated_sum(graph, *parts, block.norm_edges, triton=triton)
    return F.softplus(sites + block.norm_sites(received, graph.multiplicity))


@single
def gated_sum(
    graph: Graph,
    at_receiver: Tensor,
    at_neighbour: Tensor,
    at_distance: Tensor,
    norm: WeightedBatchNorm,
    *,
    triton: bool = False,
) -> Tensor:
    """Return (n, f) from ``at_receiver`` and ``at_neighbour`` (n, 2f) and ``at_distance`` (d, 2f); gates come first."""
    if not norm.training:
        # Normalisation by running statistics is a linear map, cheaper on nodes and distances than on edges.
        factor, shift = norm.as_linear()
        at_receiver = torch.addcmul(shift, at_receiver, factor)
        return _plain(graph, message_passing.edge_sum(graph, at_receiver, at_neighbour * factor, at_distance * factor))
    if triton and not all_reduce.active() and _triton_agrees(at_receiver.device, at_receiver.dtype, norm.scale.numel()):
        return _by_triton(graph, at_receiver, at_neighbour, at_distance, norm)
    return _by_autograd_function(graph, at_receiver, at_neighbour, at_distance, norm)


def _by_autograd_function(graph: Graph, a: Tensor, b: Tensor, c: Tensor, norm: WeightedBatchNorm) -> Tensor:
    out, mean, variance = _GatedSum.apply(a, b, c, norm.scale, norm.bias, norm.eps, graph)  # type: ignore[no-untyped-call]
    norm.remember(mean, variance, _weights(graph).total)
    return out  # type: ignore[no-any-return]


@lru_cache
def _triton_agrees(device: torch.device, kind: torch.dtype, width: int) -> bool:
    """Say whether Triton's kernels agree with the plain form in double precision at so many gates and messages.

    They are compared on a tiny graph, at the first use of a width and a precision in a process; one that disagrees is
    said on standard error.
    """
    with torch.inference_mode(False), torch.enable_grad():
        plain = _tiny(torch.device("cpu"), torch.float64, width, _by_autograd_function)
        found = _tiny(device, kind, width, _by_triton)
    off = self_check.off_by(plain, found, 1e-4)
    if off:
        print(
            f"The Triton kernels for {width} gates and messages give results that differ from plain PyTorch in "
            f"{str(kind).removeprefix('torch.')} ({off}); plain PyTorch is used in their place. Please report this.",
            file=sys.stderr,
        )
    return not off


def _tiny(device: torch.device, kind: torch.dtype, width: int, compute: Callable[..., Tensor]) -> dict[str, Tensor]:
    """Return the gated sum of a tiny graph, its gradients and the running statistics, on the CPU."""
    graph = self_check.tiny_graph(kind)
    moved: dict[str, Any] = {
        f.name: v.to(device) for f in fields(graph) if isinstance(v := getattr(graph, f.name), Tensor)
    }
    graph = replace(graph, **moved)
    draw = torch.Generator().manual_seed(0)
    rows = {"receiver": graph.n_nodes, "neighbour": graph.n_nodes, "distance": len(graph.distance)}
    tables = {name: torch.rand(n, width, generator=draw, dtype=torch.float32) - 0.5 for name, n in rows.items()}
    leaves = {name: (4 * table).to(device, kind).requires_grad_() for name, table in tables.items()}
    upstream = (torch.rand(graph.n_nodes, width // 2, generator=draw, dtype=torch.float32) - 0.5).to(device, kind)
    norm = WeightedBatchNorm(width).to(device, kind).train()
    out = compute(graph, *leaves.values(), norm)
    slopes = torch.autograd.grad((out * upstream).sum(), [*leaves.values(), norm.scale, norm.bias])
    found = {"sum": out, "running mean": norm.mean, "running variance": norm.variance}
    found |= {f"gradient by {name}": slope for name, slope in zip((*leaves, "scale", "bias"), slopes, strict=True)}
    return {name: table.detach().cpu() for name, table in found.items()}


def _by_triton(graph: Graph, a: Tensor, b: Tensor, c: Tensor, norm: WeightedBatchNorm) -> Tensor:
    from tltool.model.kernels import cgcnn_triton

    share = _weights(graph)
    with torch.no_grad():
        mean = _mean(share, a, b, c)
    out, variance = cgcnn_triton.gated_sum(graph, a, b, c, norm.scale, norm.bias, norm.eps, mean, share.edge)
    norm.remember(mean, variance, graph.edge_weight().sum())
    return out


def _plain(graph: Graph, normalised: Tensor) -> Tensor:
    gate, message = normalised.chunk(2, dim=1)
    return message_passing.neighbour_sum(graph, torch.sigmoid(gate) * F.softplus(message))


class _Weights(NamedTuple):
    """Shares of all directed edges of the full graph: of each edge, of nodes at either end, of distances; their total.

    All edges are those of the whole batch, of which several processes have a part each.
    """

    edge: Tensor
    receiver: Tensor
    neighbour: Tensor
    distance: Tensor
    total: Tensor


def _weights(graph: Graph) -> _Weights:
    def make() -> _Weights:
        weight = graph.edge_weight()
        total = all_reduce.total(weight.sum()).clamp_min(1.0)
        share = weight / total
        nodes, distances = share.new_zeros(graph.n_nodes), share.new_zeros(len(graph.distance))
        return _Weights(
            share,
            nodes.index_add(0, graph.receiver, share),
            nodes.index_add(0, graph.neighbour, share),
            distances.index_add(0, graph.distance_index, share),
            total,
        )

    return graph.once("gate weights", make)  # type: ignore[no-any-return]


def _mean(share: _Weights, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return the mean (2f,) over edges, which is known before the edges are: the sum of its three parts is linear."""
    return all_reduce.total(share.receiver @ a + share.neighbour @ b + share.distance @ c)


def _rows(graph: Graph) -> Tensor:
    """Return (e, 3): where an edge's three parts stand in the tables put below each other."""
    n = graph.n_nodes
    parts = [graph.receiver, graph.neighbour + n, graph.distance_index + 2 * n]
    return graph.once("gate rows", lambda: torch.stack(parts, dim=1))  # type: ignore[no-any-return]


class _GatedSum(torch.autograd.Function):
    """Forward and backward with batch statistics; also returns those statistics, which carry no gradient."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, c: Tensor, scale: Tensor, bias: Tensor, eps: float, graph: Graph
    ) -> tuple[Tensor, Tensor, Tensor]:
        share = _weights(graph)
        mean = _mean(share, a, b, c)
        table = torch.cat([a - mean, b, c])
        centred = F.embedding_bag(_rows(graph), table, mode="sum")
        variance = all_reduce.total(share.edge @ (centred * centred))
        inverse = torch.rsqrt(variance + eps)
        gate, argument = torch.addcmul(bias, centred, inverse * scale).chunk(2, dim=1)
        gate, message = torch.sigmoid(gate), F.softplus(argument)
        received = gate * message
        received *= graph.edge_multiplicity[:, None]
        out = a.new_zeros(graph.n_nodes, received.shape[1]).index_add_(0, graph.receiver, received)
        ctx.save_for_backward(centred, gate, argument, message, inverse, scale)
        ctx.graph = graph
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        centred, gate, argument, message, inverse, scale = ctx.saved_tensors
        graph: Graph = ctx.graph
        share = _weights(graph)
        through_gate = upstream.index_select(0, graph.receiver)
        through_gate *= graph.edge_multiplicity[:, None]
        through_gate *= gate
        slope = torch.empty_like(centred)
        half = gate.shape[1]
        torch.mul(through_gate, message, out=slope[:, :half])
        slope[:, :half] *= 1 - gate
        torch.mul(through_gate, torch.sigmoid(argument), out=slope[:, half:])
        d_bias = slope.sum(0)
        d_scale = (slope * centred).sum(0) * inverse
        # What flows through the variance; what flows through the mean is the same for all edges and comes below.
        all_bias, all_scale = all_reduce.total(torch.stack([d_bias, d_scale]))
        slope.addcmul_(centred * (all_scale * inverse), share.edge[:, None], value=-1)
        factor = inverse * scale
        width, n = slope.shape[1], graph.n_nodes

        def collected(size: int, index: Tensor, shares: Tensor) -> Tensor:
            total = slope.new_zeros(size, width).index_add_(0, index, slope)
            return total.addcmul_(shares[:, None], all_bias, value=-1).mul_(factor)

        d_a = collected(n, graph.receiver, share.receiver)
        d_b = collected(n, graph.neighbour, share.neighbour)
        d_c = collected(len(graph.distance), graph.distance_index, share.distance)
        return d_a, d_b, d_c, d_scale, d_bias, None, None
