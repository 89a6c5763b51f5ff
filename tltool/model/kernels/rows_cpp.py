"""Call compiled operations for rows selected or added up by an index, and for the expansion of distances.

Each replaces several of PyTorch's, whose calls take longer than their work on graphs of this size. ``CppKernels.takes``
says which tables they can take. Sizes: n rows of f.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tltool.model.kernels.cpp_kernels import CppKernels


def spread(cpp: CppKernels, table: Tensor, index: Tensor) -> Tensor:
    """Return (n, f): the rows of ``table`` (k, f) at ``index`` (n,)."""
    return _Spread.apply(table, cpp, index)  # type: ignore[no-any-return, no-untyped-call]


def collect(cpp: CppKernels, rows: Tensor, index: Tensor, weight: Tensor, size: int) -> Tensor:
    """Return (size, f): at each place the sum of those of ``rows`` (n, f), times ``weight`` (n,), that ``index`` puts
    there.
    """
    return _Collect.apply(rows, cpp, index, weight, size)  # type: ignore[no-any-return, no-untyped-call]


def gaussians(cpp: CppKernels, distance: Tensor, centres: Tensor, width: float) -> Tensor:
    """Return (d, m): ``distance`` (d,) expanded as ``basis.Gaussians`` does it, without a gradient."""
    distance, centres = distance.contiguous(), centres.contiguous()
    found = distance.new_empty(len(distance), len(centres))
    sizes, tables = found.shape, (distance.data_ptr(), centres.data_ptr(), width, found.data_ptr())
    cpp.library(found.dtype).gaussians(*sizes, *tables)
    return found


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, cpp: CppKernels, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.size, ctx.cpp = len(table), cpp
        return _spread(cpp, table, index, None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _collect(ctx.cpp, upstream, ctx.saved_tensors[0], None, ctx.size), None, None


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, cpp: CppKernels, index: Tensor, weight: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(index, weight)
        ctx.cpp = cpp
        return _collect(cpp, rows, index, weight, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return _spread(ctx.cpp, upstream, *ctx.saved_tensors), None, None, None, None


def _spread(cpp: CppKernels, table: Tensor, index: Tensor, weight: Tensor | None) -> Tensor:
    found = table.new_empty(len(index), table.shape[1])
    _call(cpp, "spread", table.contiguous(), index.contiguous(), weight, found)
    return found


def _collect(cpp: CppKernels, rows: Tensor, index: Tensor, weight: Tensor | None, size: int) -> Tensor:
    found = rows.new_zeros(size, rows.shape[1])
    _call(cpp, "collect", rows.contiguous(), index.contiguous(), weight, found)
    return found


def _call(cpp: CppKernels, name: str, source: Tensor, index: Tensor, weight: Tensor | None, found: Tensor) -> None:
    tables = index.data_ptr(), 0 if weight is None else weight.data_ptr(), source.data_ptr(), found.data_ptr()
    getattr(cpp.library(found.dtype), name)(len(index), found.shape[1], *tables)


def soften(cpp: CppKernels, rows: Tensor) -> Tensor:
    """Return softplus(x) - log 2 of ``rows`` x, contiguous, in whose place the derivative is put."""
    out = torch.empty_like(rows)
    cpp.library(rows.dtype).soften(rows.numel(), rows.data_ptr(), out.data_ptr())
    return out
