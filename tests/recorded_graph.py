"""What a CUDA graph does, on the CPU: the tensor operations of a capture are noted and replayed without Python.

Every replay reads and writes the tensors of the capture, so whatever a step takes from Python anew each time (a number,
a size, a tensor made by the caller) shows as a wrong result. As on CUDA, a capture by itself changes nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _alias(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class CUDAGraph(TorchDispatchMode):
    """Stands in for ``torch.cuda.CUDAGraph``; the mode notes operations while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self.made: set[int] = set()
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = {_place(t) for t in _tensors((args, kwargs))}
        for argument, given in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in _tensors(given):
                    if _place(tensor) not in self.made:
                        whole = tensor.detach()
                        self.before.setdefault(id(tensor), (whole, whole.clone()))
        # As they are now: an operation may give a tensor another shape in place.
        noted_args, noted_kwargs = tree_map(_alias, args), tree_map(_alias, kwargs)
        out = func(*args, **kwargs)
        results = [_alias(tensor) for tensor in _tensors(out)]
        fresh = [t for t in results if _place(t) not in inputs]
        self.made |= {_place(t) for t in fresh}
        writes = any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
        if fresh or writes:
            self.notes.append((func, noted_args, noted_kwargs, [] if writes else results))
        return out

    def undo(self) -> None:
        """Put back what the capture changed."""
        for tensor, was in self.before.values():
            tensor.copy_(was)

    @torch.no_grad()
    def replay(self) -> None:
        """Do again what was noted, on the same tensors."""
        self.replays += 1
        for func, args, kwargs, results in self.notes:
            again = _tensors(func(*args, **kwargs))
            for tensor, value in zip(results, again if results else [], strict=True):
                tensor.copy_(value)


@contextmanager
def graph(into: CUDAGraph, **keys: Any) -> Iterator[None]:
    """Stand in for ``torch.cuda.graph``."""
    with into:
        yield
    into.undo()
