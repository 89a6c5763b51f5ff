"""Stack several models of one shape: their weights are in common tables, and one computation gives all their values.

The trainable parameters are in a few tables with one row per model. The models' own parameters are views of these
tables, so that one operation clips, updates or averages all of them. Sizes: s models, c crystals per model, v
columns of network values (``PropertyModel.columns``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.crystal_graph import Graph, Parts
from tltool.model.encoders.cgcnn import CGCNN
from tltool.model.kernels import self_check
from tltool.model.kernels.cpp_kernels import CppKernels
from tltool.model.layers.mlp import Trunk
from tltool.model.property_model import PropertyModel
from tltool.model.readouts.pool import Pool
from tltool.model.sklearn_head import Standardise
from tltool.model.surgery.low_rank import LowRank
from tltool.sweep import stacked_cgcnn


@dataclass(frozen=True)
class Stack:
    """Models of one shape with the same frozen parts.

    ``cpp`` are the kernels that compute them. ``learnt`` is (s, p) for each group of parameters, ``slopes`` are their
    gradients, and ``running`` (s, b) are the running statistics. ``tables`` has every parameter and saved buffer by
    name, (s, ...), and ``places`` the view for the gradient of each parameter.
    """

    cpp: CppKernels
    models: list[PropertyModel]
    learnt: list[Tensor]
    slopes: list[Tensor]
    running: Tensor
    tables: dict[str, Tensor]
    places: dict[str, Tensor]

    @property
    def numbers(self) -> list[Tensor]:
        """All tensors that change in training."""
        return [*self.learnt, self.running]


def alike(model: PropertyModel, cpp: CppKernels | None) -> tuple[object, ...] | None:
    """Return a key that is equal for models that can be stacked; None for a model that must be computed alone."""
    encoder, readout, trunk = model.encoder, model.readout, model.trunk
    known = (
        isinstance(encoder, CGCNN)
        and getattr(encoder, "functional", None) is None
        and cpp is not None
        and cpp.takes(weight := next(encoder.parameters()))
        and self_check.convolves(cpp, weight.dtype, encoder.dim)
    )
    if not known or type(readout) is not Pool or readout.extras or type(trunk) not in (Trunk, Standardise):
        return None
    if any(type(head) is not nn.Linear for head in model.heads.values()):
        return None
    if any(isinstance(part, nn.Dropout) and part.p > 0 for part in model.modules()):
        # Dropout would need a separate sequence of random numbers for each model.
        return None
    shapes = tuple((name, table.shape, table.requires_grad) for name, table in model.named_parameters())
    return type(encoder), repr(model), readout.levels, readout.statistics, model.frozen, shapes


def stack_of(cpp: CppKernels, models: Sequence[PropertyModel], groups: Sequence[Sequence[str]]) -> Stack:
    """Return ``models`` as a stack with the trainable parameters ``groups``; the models' tensors become views of it."""
    own = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
    kept = models[0].state_dict().keys()
    moving = [name for name, table in models[0].named_buffers() if name in kept and table.is_floating_point()]
    tables: dict[str, Tensor] = {}
    places: dict[str, Tensor] = {}
    learnt, slopes = [], []
    for names in groups:
        joined, views = _joined(own, names)
        slope = torch.zeros_like(joined)
        for name, view, part in zip(names, views, _views(slope, [v.shape[1:] for v in views]), strict=True):
            tables[name], places[name] = view.requires_grad_(), part
        learnt.append(joined)
        slopes.append(slope)
    running, views = _joined(own, moving)
    tables |= dict(zip(moving, views, strict=True))
    for name in own[0].keys() & kept - tables.keys():
        tables[name] = torch.stack([mine[name].detach() for mine in own])
    return Stack(cpp, list(models), learnt, slopes, running, tables, places)


@torch.no_grad()
def part(stack: Stack) -> None:
    """Give every model its own tensors again, with the current values."""
    for model in stack.models:
        for table in (*model.parameters(), *model.buffers()):
            table.data = table.data.clone()


def values(stack: Stack, graph: Graph, parts: Parts) -> Tensor:
    """Return network values (s, c, v) of each model for its own part of ``graph``."""
    first = stack.models[0]
    if not isinstance(first.encoder, CGCNN):
        raise TypeError("Only CGCNN is computed side by side; see alike.")
    levels = stacked_cgcnn.levels(stack.cpp, first.encoder, graph, parts, partial(_table, stack, "encoder."))
    embedding = first.readout(levels, graph)
    return values_of_embedding(stack, embedding.view(parts.count, parts.crystals, -1))


def values_of_embedding(stack: Stack, embedding: Tensor) -> Tensor:
    """Return network values (s, c, v) from the embedding (s, c, dim)."""
    trunk = stack.models[0].trunk
    if isinstance(trunk, Standardise):
        mean, spread = _table(stack, "trunk.", "mean"), _table(stack, "trunk.", "spread")
        return values_of_hidden(stack, (embedding - mean[:, None]) / spread[:, None])
    hidden = F.softplus(embedding)
    for k in range(len(trunk.layers)):  # type: ignore[arg-type]
        hidden = F.softplus(_mapped(stack, f"trunk.layers.{k}", hidden))
    return values_of_hidden(stack, hidden)


def values_of_hidden(stack: Stack, hidden: Tensor) -> Tensor:
    """Return network values (s, c, v) from the input of the heads (s, c, dim)."""
    return torch.cat([_mapped(stack, f"heads.{name}", hidden) for name in stack.models[0].heads], dim=2)


def _mapped(stack: Stack, name: str, rows: Tensor) -> Tensor:
    weight, bias = _table(stack, f"{name}.", "weight"), _table(stack, f"{name}.", "bias")
    return torch.baddbmm(bias[:, None], rows, weight.mT)


def _table(stack: Stack, prefix: str, name: str) -> Tensor:
    """Return the parameter ``prefix`` + ``name`` of all models (s, ...), including a low-rank update."""
    whole = f"{prefix}{name}"
    if whole in stack.tables:
        return stack.tables[whole]
    longer = f"{whole.removesuffix('.weight')}.parametrizations.weight"
    update = stack.models[0].get_submodule(f"{longer}.0")
    factor = update.factor if isinstance(update, LowRank) else 1.0
    up, down = stack.tables[f"{longer}.0.up"], stack.tables[f"{longer}.0.down"]
    return torch.baddbmm(stack.tables[f"{longer}.original"], up, down, alpha=factor)


@torch.no_grad()
def _joined(own: Sequence[dict[str, Tensor]], names: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
    """Move the parameters ``names`` of all models to one table (s, p); return it and its views (s, ...) by name."""
    rows = [torch.cat([mine[name].detach().flatten() for name in names]) if names else torch.empty(0) for mine in own]
    joined = torch.stack(rows)
    views = _views(joined, [own[0][name].shape for name in names])
    for k, mine in enumerate(own):
        for name, view in zip(names, views, strict=True):
            mine[name].data = view[k]
    return joined, views


def _views(joined: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    sizes = [shape.numel() for shape in shapes]
    pieces = torch.split(joined, sizes, dim=1) if sizes else ()
    return [piece.view(len(joined), *shape) for piece, shape in zip(pieces, shapes, strict=True)]
