"""Compute SiLU after weighted batch normalisation of a linear map, with a backward pass that stores only the input.

out = SiLU(N(W x + b + z)) + x, with or without z and the last x; SiLU(u) = u sigmoid(u). Left to automatic
differentiation this keeps five tensors of the size of the rows and goes to memory a dozen times, with the same result.
r rows, p of a piece, a and f features.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import custom_fwd
from torch.autograd.function import once_differentiable

from tltool.model import all_reduce
from tltool.model.kernels import chunks
from tltool.model.norm import WeightedBatchNorm


def norm_silu(
    rows: Tensor,
    weights: Tensor,
    linear: nn.Linear,
    norm: WeightedBatchNorm,
    added: Tensor | None = None,
    residual: bool = False,
) -> Tensor:
    """Return SiLU(N(W x + b + ``added``)) (r, f), plus x if ``residual``, for ``rows`` x (r, a) and added (r, f).

    ``weights`` (r,) say how often each row counts in the statistics.
    """
    total = (all_reduce.total(weights.sum()) if norm.training else weights.sum()).clamp_min(1.0)
    share = weights / total if norm.training else None
    learned = linear.weight, linear.bias, norm.scale, norm.bias
    out, mean, variance = _NormSiLU.apply(rows, added, residual, share, norm.mean, norm.variance, norm.eps, *learned)  # type: ignore[no-untyped-call]
    if norm.training:
        norm.remember(mean, variance, total)
    return out  # type: ignore[no-any-return]


def mean_and_variance(rows: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (f,) of ``rows``, each of which has a ``share`` (r,) in them; of all ranks together."""
    mean = all_reduce.total(share @ rows)
    variance = torch.zeros_like(mean)
    for piece in chunks.of(rows):
        variance += share[piece] @ (rows[piece] - mean).square_()
    return mean, all_reduce.total(variance)


def applied(centred: Tensor, factor: Tensor, bias: Tensor) -> Tensor:
    """Overwrite ``centred`` (p, f) by SiLU(``factor`` ``centred`` + ``bias``)."""
    return F.silu(torch.addcmul(bias, centred, factor, out=centred), inplace=True)


def slopes(centred: Tensor, scale: Tensor, bias: Tensor, upstream: Tensor, out: Tensor | None = None) -> Tensor:
    """Return (p, f): ``upstream`` times the derivative of SiLU at ``scale`` ``centred`` + ``bias``."""
    argument = torch.addcmul(bias, centred, scale)
    gate = torch.sigmoid(argument)
    return torch.mul(argument.mul_(1 - gate).add_(1).mul_(gate), upstream, out=out)


class _NormSiLU(torch.autograd.Function):
    """With ``mean`` and ``variance`` (f,), or those of the batch if ``share`` (r,) is given; returns what it used."""

    @staticmethod
    @custom_fwd(device_type="cuda", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        x: Tensor,
        added: Tensor | None,
        residual: bool,
        share: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        eps: float,
        weight: Tensor,
        shift: Tensor,
        scale: Tensor,
        bias: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        out = _mapped(x, added, weight, shift)
        # An input must not come out as it is.
        mean, variance = (mean.clone(), variance.clone()) if share is None else mean_and_variance(out, share)
        root = torch.rsqrt(variance + eps)
        factor = root * scale
        for piece in chunks.of(out):
            applied(out[piece].sub_(mean), factor, bias)
            if residual:
                out[piece] += x[piece]
        ctx.residual = residual
        ctx.save_for_backward(x, added, share, mean, root, weight, shift, scale, bias)
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        x, added, share, mean, root, weight, shift, scale, bias = ctx.saved_tensors
        centred, slope = _mapped(x, added, weight, shift), torch.empty_like(upstream)
        d_scale, d_bias = torch.zeros_like(scale), torch.zeros_like(bias)
        for piece in chunks.of(slope):
            part = centred[piece].sub_(mean).mul_(root)
            slopes(part, scale, bias, upstream[piece], slope[piece])
            d_bias += slope[piece].sum(0)
            d_scale += (part * slope[piece]).sum(0)
        factor = root * scale
        all_bias, all_scale = (d_bias, d_scale) if share is None else all_reduce.total(torch.stack([d_bias, d_scale]))
        for piece in chunks.of(slope):
            if share is not None:
                # What flows through mean and variance.
                slope[piece] -= torch.addcmul(all_bias, centred[piece], all_scale).mul_(share[piece, None])
            slope[piece] *= factor
        needs_x = ctx.needs_input_grad[0]
        d_x = None if not needs_x else torch.addmm(upstream, slope, weight) if ctx.residual else slope @ weight
        d_added = slope if added is not None else None
        return d_x, d_added, *(None,) * 5, slope.t() @ x, slope.sum(0), d_scale, d_bias


def _mapped(x: Tensor, added: Tensor | None, weight: Tensor, shift: Tensor) -> Tensor:
    rows = torch.addmm(shift, x, weight.t())
    return rows if added is None else rows.add_(added)
