"""Compiled steps of AdamW and compiled assembly of batches, compared with the plain forms before they are used.

That a library passed is recorded beside it (``building.py``), so that later processes do not compare again.
"""

import ctypes
from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor

from tltool.data import assembly, loading
from tltool.data.loading import Table
from tltool.fields import Graph
from tltool.model import building
from tltool.training import adamw

_SIZES = (1, 7, 16, 33)
_RATE, _DECAY, _BETAS, _EPS = 0.01, 0.1, (0.9, 0.999), 1e-8


def earned(library: ctypes.CDLL, agrees: Callable[[], bool], name: str, say: Callable[[str], None]) -> bool:
    """Say whether ``library``, which is in use, ``agrees`` with the plain form; ``say`` hears of one that does not."""
    if building.passed(library, name):
        return True
    if not agrees():
        say(f"Compiled {name} give other numbers than plain PyTorch, which is used in their place. Please report this.")
        return False
    building.remember(library, name)
    return True


def steps_agree() -> bool:
    """Say whether two compiled steps of AdamW are those of its formulas (arXiv:1711.05101) in double precision."""
    draw = torch.Generator().manual_seed(0)
    start = [torch.rand(size, generator=draw, dtype=torch.float32) - 0.5 for size in _SIZES]
    slopes = [[torch.rand(size, generator=draw, dtype=torch.float32) - 0.5 for size in _SIZES] for _ in range(2)]
    with torch.inference_mode(False):
        mine = [torch.nn.Parameter(table.clone()) for table in start]
        optimiser = adamw.AdamW(mine, lr=_RATE, weight_decay=_DECAY, fused=True)
        for of_step in slopes:
            for parameter, slope in zip(mine, of_step, strict=True):
                parameter.grad = slope.clone()
            optimiser.step()
    plain = [_stepped(table.double(), [s[k].double() for s in slopes]) for k, table in enumerate(start)]
    # A step is 0.01, and rounding a tenth of a millionth of the number.
    return all(float((a.detach() - b).abs().max()) < 1e-6 for a, b in zip(mine, plain, strict=True))


def _stepped(value: Tensor, slopes: list[Tensor]) -> Tensor:
    mean, square = torch.zeros_like(value), torch.zeros_like(value)
    for step, slope in enumerate(slopes, start=1):
        mean = _BETAS[0] * mean + (1 - _BETAS[0]) * slope
        square = _BETAS[1] * square + (1 - _BETAS[1]) * slope**2
        root = (square / (1 - _BETAS[1] ** step)).sqrt() + _EPS
        value = value * (1 - _RATE * _DECAY) - _RATE * mean / (1 - _BETAS[0] ** step) / root
    return value


def batches_agree() -> bool:
    """Say whether a compiled batch of a table, in which rows repeat, is the plain one to the bit."""
    table, rows = _table(), torch.tensor([2, 0, 0, 1])
    library = assembly.in_use()
    found = table.select(rows)
    try:
        assembly.use(None)
        plain = table.select(rows)
    finally:
        assembly.use(library)
    names = [field.name for field in fields(Graph) if isinstance(getattr(plain, field.name), Tensor)]
    return all(torch.equal(getattr(plain, name), getattr(found, name)) for name in names)


def _table() -> Table:
    """Return three crystals of 2, 1 and 3 nodes, of which one has no edge, in the kinds of number of a store."""
    first_edge = torch.tensor([0, 2, 3, 3, 5, 6, 7])
    return loading.Table(
        first_node=torch.tensor([0, 2, 3, 6]),
        first_distance=torch.tensor([0, 2, 2, 5]),
        first_edge=first_edge,
        number=torch.tensor([11, 17, 2, 8, 22, 38], dtype=torch.uint8),
        multiplicity=torch.tensor([1, 2, 1, 3, 1, 1], dtype=torch.int32),
        neighbour=torch.tensor([0, 1, 0, 1, 2, 0, 2], dtype=torch.int32),
        edge_multiplicity=torch.tensor([6, 8, 6, 4, 2, 12, 1], dtype=torch.int32),
        distance_index=torch.tensor([0, 1, 0, 0, 1, 2, 2], dtype=torch.int32),
        distance=torch.tensor([2.8, 3.9, 1.95, 2.76, 3.9]),
        volume=torch.tensor([22.0, 30.0, 12.0]),
    )
