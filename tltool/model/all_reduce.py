"""Compute sums over all ranks that train one model together, each on its part of a batch; with one rank do nothing.

``training/distributed.py`` connects the ranks. Every sum over the crystals of a batch uses ``total``, so that the
statistics of normalisation layers and the loss are those of the whole batch on every rank.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

_joined = False


@contextmanager
def joined() -> Iterator[None]:
    """Make ``total`` sum over all ranks in the body; every rank must compute the same sums in the same order."""
    global _joined
    was, _joined = _joined, True
    try:
        yield
    finally:
        _joined = was


def active() -> bool:
    """Return whether sums are currently over several ranks."""
    return _joined


def total(part: Tensor) -> Tensor:
    """Return the sum of ``part`` over all ranks, the same on each; its gradient is the sum of theirs."""
    return _Total.apply(part) if _joined else part  # type: ignore[no-untyped-call]


def with_count(part: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``total`` of ``part`` (k,) and of ``count`` (any shape, without gradient), with one communication."""
    if not _joined:
        return part, count
    both = total(torch.cat([part, count.detach().reshape(-1).to(part.dtype)]))
    return both[: len(part)], both[len(part) :].detach().reshape(count.shape)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return _summed(part)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return _summed(upstream)


def _summed(part: Tensor) -> Tensor:
    whole = part.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(whole)
    return whole
