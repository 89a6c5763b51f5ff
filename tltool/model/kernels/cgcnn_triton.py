"""The gated sum of CGCNN in Triton, two kernels each way; ``cgcnn_gate.py`` has the plain form and decides which is
used.

Nothing of size edges x features is ever written (``cgcnn_triton_passes.py``), so that what is kept for the backward
pass is what came in. Sizes as in ``crystal_graph``; f features, w = 2f gates and messages.
"""

import os
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool.crystal_graph import Graph
from tltool.errors import ResourceError
from tltool.model.kernels import cgcnn_triton_passes

_PROGRAMS = 512
_EDGES = 8  # at once; a node of the quotient graph has about six


def interpreted() -> bool:
    """Say whether Triton interprets its kernels in Python, on any device, as ``TRITON_INTERPRET=1`` asks for."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def tried(device: torch.device) -> None:
    """Run the kernels on ``device`` both ways, on one node that is its own neighbour; ResourceError if that fails."""
    one, index = torch.ones(1, device=device), torch.zeros(1, dtype=torch.int64, device=device)
    ends = torch.arange(2, device=device)
    graph = Graph(index, one, index, ends, ends, index, index, one, index, one)
    table = torch.ones(1, 4, device=device, requires_grad=True)
    row = torch.ones(4, device=device)
    try:
        out, _ = gated_sum(graph, table, table, table, row, row, 1e-5, 3 * row, one)
        found = (out.sum() + torch.autograd.grad(out.sum(), table)[0].sum()).item()
    except Exception as error:  # Triton fails with exceptions of its own, its compiler's and the driver's
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ResourceError(f"The Triton kernels do not run on {device} ({reason}); use kernels=torch.") from error
    # Two messages of sigmoid(1) softplus(1); no slope comes through a normalisation of one edge.
    if abs(found - 2 * 0.7310585786 * 1.3132616875) > 1e-4:
        raise ResourceError(f"The Triton kernels give wrong results on {device} ({found}); use kernels=torch.")


def gated_sum(
    graph: Graph, a: Tensor, b: Tensor, c: Tensor, scale: Tensor, bias: Tensor, eps: float, mean: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (n, f) as ``cgcnn_gate.gated_sum`` and the variance (w,) of the edges; both by batch statistics.

    ``a``, ``b`` (n, w) and ``c`` (d, w) stand at receiver, neighbour and distance; ``mean`` (w,) of the edges, through
    which no gradient flows here, but is part of what comes back; ``share`` (e,) of all edges.
    """
    return _GatedSum.apply(a, b, c, scale, bias, eps, mean, share, graph)  # type: ignore[no-any-return,no-untyped-call]


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        scale: Tensor,
        bias: Tensor,
        eps: float,
        mean: Tensor,
        share: Tensor,
        graph: Graph,
    ) -> tuple[Tensor, Tensor]:
        a, b, c = a.contiguous(), b.contiguous(), c.contiguous()
        n, width = a.shape
        edges = _edges(graph, share)
        sizes = _sizes(width)
        programs = min(n, _PROGRAMS)
        partial = a.new_empty(programs, width)
        cgcnn_triton_passes.variance[(programs,)](a, b, c, mean, *edges, partial, n, **sizes)
        variance = partial.sum(0)
        inverse = torch.rsqrt(variance + eps)
        out = a.new_empty(n, width // 2)
        cgcnn_triton_passes.forward[(n,)](a, b, c, mean, inverse * scale, bias, *edges, out, **sizes)
        ctx.save_for_backward(a, b, c, scale, bias, mean, inverse, share)
        ctx.graph = graph
        ctx.mark_non_differentiable(variance)
        return out, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        a, b, c, scale, bias, mean, inverse, share = ctx.saved_tensors
        n, width = a.shape
        edges, sizes = _edges(ctx.graph, share), _sizes(width)
        factor, upstream = inverse * scale, upstream.contiguous()
        programs = min(n, _PROGRAMS)
        partial = a.new_empty(programs, 2 * width)
        cgcnn_triton_passes.slopes[(programs,)](a, b, c, mean, factor, bias, *edges, upstream, partial, n, **sizes)
        d_bias, along = partial.sum(0).split(width)
        d_scale = along * inverse
        d_a, d_b, d_c = torch.empty_like(a), torch.zeros_like(b), torch.zeros_like(c)
        through = d_bias.contiguous(), d_scale * inverse
        cgcnn_triton_passes.backward[(n,)](
            a, b, c, mean, factor, bias, *edges, upstream, *through, d_a, d_b, d_c, **sizes
        )
        return d_a, d_b, d_c, d_scale, d_bias, None, None, None, None


def _edges(graph: Graph, share: Tensor) -> tuple[Tensor, ...]:
    return (
        graph.first_edge,
        graph.multiplicity,
        graph.neighbour,
        graph.distance_index,
        graph.edge_multiplicity,
        share,
    )


def _sizes(width: int) -> dict[str, int]:
    return {"F": width // 2, "BLOCK": triton.next_power_of_2(width // 2), "EDGES": _EDGES, "num_warps": 2}
