"""SiLU after weighted batch normalisation, with a backward pass that keeps the rows alone and works in pieces.

SiLU(u) = u sigmoid(u), u = N(rows). Left to automatic differentiation this keeps four tensors of the size of the rows
and goes to memory a dozen times; the result is the same. r rows, f features.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.amp import custom_fwd
from torch.autograd.function import once_differentiable

from tltool.model import pieces, ranks
from tltool.model.norm import WeightedBatchNorm


def norm_silu(rows: Tensor, weights: Tensor, norm: WeightedBatchNorm, residual: Tensor | None = None) -> Tensor:
    """Return SiLU(N(``rows``)) (r, f), each row counted ``weights`` (r,) times, plus ``residual`` (r, f) if given."""
    total = (ranks.total(weights.sum()) if norm.training else weights.sum()).clamp_min(1.0)
    share = weights / total if norm.training else None
    given = rows, residual, norm.scale, norm.bias, share, norm.mean, norm.variance, norm.eps
    out, mean, variance = _NormSiLU.apply(*given)  # type: ignore[no-untyped-call]
    if norm.training:
        norm.remember(mean, variance, total)
    return out  # type: ignore[no-any-return]


class _NormSiLU(torch.autograd.Function):
    """With ``mean`` and ``variance`` (f,), or those of the batch if ``share`` (r,) is given; returns what it used."""

    @staticmethod
    @custom_fwd(device_type="cuda", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        rows: Tensor,
        residual: Tensor | None,
        scale: Tensor,
        bias: Tensor,
        share: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if share is not None:
            mean, variance = ranks.total(share @ rows), torch.zeros_like(scale)
            for piece in pieces.of(rows):
                variance += share[piece] @ (rows[piece] - mean).square_()
            variance = ranks.total(variance)
        root = torch.rsqrt(variance + eps)
        out = torch.empty_like(rows)
        for piece in pieces.of(rows):
            torch.addcmul(bias, rows[piece] - mean, root * scale, out=out[piece])
            F.silu(out[piece], inplace=True)
            if residual is not None:
                out[piece] += residual[piece]
        ctx.has_residual = residual is not None
        ctx.save_for_backward(rows, scale, bias, share, mean, root)
        # An input must not come out as it is.
        statistics = (mean, variance) if share is not None else (mean.clone(), variance.clone())
        ctx.mark_non_differentiable(*statistics)
        return out, *statistics

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        rows, scale, bias, share, mean, root = ctx.saved_tensors
        d_rows = torch.empty_like(rows)
        d_scale, d_bias = torch.zeros_like(scale), torch.zeros_like(bias)
        for piece in pieces.of(rows):
            centred = (rows[piece] - mean).mul_(root)
            argument = torch.addcmul(bias, centred, scale)
            gate = torch.sigmoid(argument)
            slope = torch.mul(argument.mul_(1 - gate).add_(1).mul_(gate), upstream[piece], out=d_rows[piece])
            d_bias += slope.sum(0)
            d_scale += centred.mul_(slope).sum(0)
        if share is not None:
            # What flows through mean and variance.
            all_bias, all_scale = ranks.total(torch.stack([d_bias, d_scale]))
            for piece in pieces.of(rows):
                centred = (rows[piece] - mean).mul_(root)
                d_rows[piece] -= torch.addcmul(all_bias, centred, all_scale).mul_(share[piece, None])
        d_rows *= root * scale
        return d_rows, upstream if ctx.has_residual else None, d_scale, d_bias, None, None, None, None
