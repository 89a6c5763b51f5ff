"""Compute the EMA (exponential moving average) of a model's weights and statistics over the steps of a fit."""

import copy
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from tltool.model.property_model import PropertyModel

M = TypeVar("M")


class Average(NamedTuple, Generic[M]):
    """``model`` holds the EMA (several models, in a stack); ``own`` are its tensors, ``followed`` those they follow."""

    model: M
    own: list[Tensor]
    followed: list[Tensor]


def average_of(model: PropertyModel) -> Average[PropertyModel]:
    """Return the initial EMA of ``model``: a copy.

    The lists are made once, since gathering them takes ten times as long as the average itself.
    """
    mine = copy.deepcopy(model)
    return Average(mine, _numbers(mine), _numbers(model))


@torch.no_grad()
def follow(average: Average[Any], decay: float) -> None:
    """Update the EMA by one step: decay * average + (1 - decay) * model."""
    torch._foreach_lerp_(average.own, average.followed, 1 - decay)


def _numbers(model: PropertyModel) -> list[Tensor]:
    return [table.detach() for table in (*model.parameters(), *model.buffers()) if table.is_floating_point()]
