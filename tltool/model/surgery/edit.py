"""Change a model between source and target: copy it, renew weights, replace the head, freeze parts, and report it.

The functions change the model that they get; use ``copy_of`` to keep the source unchanged.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from tltool.crystal_graph import Graph
from tltool.errors import ConfigError
from tltool.model import heads
from tltool.model.mean_of_models import MeanOfModels
from tltool.model.norm import WeightedBatchNorm
from tltool.model.property_model import PropertyModel, is_under
from tltool.model.scaler import ClassScaler, Scaler
from tltool.model.sklearn_head import FixedHead
from tltool.model.surgery.low_rank import plain

# What the spec may hold about one transfer alone: how many numbers it trained, where the tensors do not say so, how the
# mode was chosen, which functionals were new to the source, and what it kept of the source.
OF_ONE_TRANSFER = ("trainable_parameters", "auto", "new_functionals", "replay")


AnyScaler = Scaler | ClassScaler


class LoadReport(NamedTuple):
    """The names of tensors: ``loaded`` from the source, ``new``, ``frozen`` (some of the loaded), and ``dropped``."""

    loaded: list[str]
    new: list[str]
    frozen: list[str]
    dropped: list[str]
    trainable_parameters: int


def copy_of(model: PropertyModel) -> PropertyModel:
    """Return an independent copy with everything trainable."""
    twin = copy.deepcopy(model.alone() if isinstance(model, MeanOfModels) else model)
    twin.frozen, twin.uncertainty = (), {}
    for key in OF_ONE_TRANSFER:
        twin.spec.pop(key, None)
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    return twin


def renew(module: nn.Module) -> None:
    """Initialise all parameters of ``module`` again, including running statistics.

    They are drawn on the CPU, so that a seed gives the same start on every device.
    """
    device = next((table.device for table in module.parameters()), torch.device("cpu"))
    module.to("cpu")
    # Parts before what they are part of, which may draw them in its own way.
    for part in reversed(list(module.modules())):
        reset = getattr(part, "reset_parameters", None)
        if reset is not None:
            reset()
    module.to(device)


def linear_heads(model: PropertyModel) -> None:
    """Make further heads of ``model`` linear maps, whatever the heads of its source are."""
    model.fresh_head = heads.linear
    model.spec.pop("head", None)


def new_heads(model: PropertyModel, scalers: Mapping[str, AnyScaler]) -> None:
    """Give ``model`` a fresh head of its kind for each quantity of ``scalers``, and those scalers."""
    device = next(model.encoder.parameters()).device
    model.heads = nn.ModuleDict({name: model.head_of(scaler.width) for name, scaler in scalers.items()}).to(device)
    model.scalers = nn.ModuleDict(scalers).to(device)


def give_head(model: PropertyModel, scalers: Mapping[str, AnyScaler], head: str) -> None:
    """Apply the key ``mode.head``: ``new`` makes fresh heads for ``scalers``, ``keep`` keeps the head of the source."""
    if head not in ("new", "keep"):
        raise ConfigError(f"mode.head={head!r} is not known; use new or keep.")
    new_heads(model, scalers) if head == "new" else keep_head(model, scalers)


def keep_head(model: PropertyModel, scalers: Mapping[str, AnyScaler]) -> None:
    """Keep the head of ``model`` for the quantity of ``scalers``; keep the scaler too if the quantity is the same.

    Raise ConfigError if the target has more than one quantity, or if there is no suitable head: one of a class serves
    a class of the same names alone.
    """
    (name, *others) = scalers
    if others:
        raise ConfigError("mode.head=keep works for one quantity only; use mode.head=new.")
    source = name if name in model.heads else next(iter(model.heads))
    if name not in model.heads and len(model.heads) > 1:
        raise ConfigError(f"mode.head=keep: the source has several heads, and none is for {name}; use mode.head=new.")
    if isinstance(model.heads[source], FixedHead):
        raise ConfigError(
            "mode.head=keep: the source's head is an estimator, which cannot be trained further; use mode.head=new."
        )
    _require_alike(source, model.scalers[source], name, scalers[name])
    device = next(model.encoder.parameters()).device
    kept = model.scalers[name] if name in model.scalers else scalers[name].to(device)
    model.heads, model.scalers = nn.ModuleDict({name: model.heads[source]}), nn.ModuleDict({name: kept})


def _require_alike(source: str, kept: nn.Module, target: str, new: AnyScaler) -> None:
    """Raise ConfigError where the head of the source says something else than the target is."""
    if not isinstance(new, ClassScaler) and not isinstance(kept, ClassScaler):
        return
    names = [", ".join(s.names) if isinstance(s, ClassScaler) else "a number" for s in (kept, new)]
    old = source == target and isinstance(new, ClassScaler) and len(new.names) == 2 and isinstance(kept, Scaler)
    if names[0] != names[1] and not old:
        raise ConfigError(
            f"mode.head=keep: the source's {source} is {names[0]}, and {target} is {names[1]}; use mode.head=new."
        )


def freeze(model: PropertyModel, parts: list[str]) -> None:
    """Freeze every tensor if a regex of ``parts`` matches its whole dotted name, or that of a part that contains it.

    Frozen parameters get no gradient, and frozen modules stay in evaluation mode, so that buffers do not change either.
    Raise ConfigError for a regex that matches nothing.
    """
    matched(model, parts, "mode.parts")
    model.frozen = tuple(parts)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not is_under(name, model.frozen))


def matched(model: PropertyModel, patterns: list[str], key: str) -> None:
    """Raise ConfigError, naming the config ``key`` and the parts there are, for a regex that matches no part."""
    parts = [name for name, _ in model.named_modules() if name]
    names = [*parts, *(name for name, _ in model.named_parameters())]
    for pattern in patterns:
        try:
            hit = any(is_under(name, (pattern,)) for name in names)
        except re.error as error:
            raise ConfigError(f"{key}: {pattern!r} is not a regular expression ({error}); correct it.") from error
        if not hit:
            known = ", ".join(name for name in parts if name.count(".") < 3)
            raise ConfigError(f"{key}: no part has the name {pattern!r}; use {known}.")


@torch.no_grad()
def new_functionals(model: PropertyModel, names: Sequence[str]) -> None:
    """Add the functionals ``names`` to ``model``; each vector starts from the mean of the known ones."""
    known = model.encoder.functional.weight  # type: ignore[union-attr]
    rows = known.mean(0, keepdim=True).expand(len(names), -1)  # type: ignore[operator]
    model.encoder.functional.weight = nn.Parameter(torch.cat([known, rows]))  # type: ignore[union-attr,list-item]
    model.spec["functionals"] = [*model.spec["functionals"], *names]


@torch.no_grad()
def refit_statistics(model: PropertyModel, graph: Graph) -> None:
    """Set the running statistics of every normalisation layer to those of ``graph``: the training rows as one batch.

    Raise ConfigError if the graph has no edges.
    """
    if not len(graph.neighbour):
        raise ConfigError(
            "mode.refit_statistics=true needs structures with edges in the training rows; use "
            "mode.refit_statistics=false."
        )
    norms = [m for m in model.encoder.modules() if isinstance(m, WeightedBatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.encoder.train()
    model.encoder(graph)
    model.encoder.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def report(source: PropertyModel, model: PropertyModel) -> LoadReport:
    """Compare ``model`` with its ``source``, tensor by tensor; return the load report."""
    before, after = source.state_dict(), {plain(name): tensor for name, tensor in model.state_dict().items()}

    def same(name: str) -> bool:
        other = before.get(name)
        return other is not None and other.shape == after[name].shape and torch.equal(other.cpu(), after[name].cpu())

    loaded = [name for name in after if same(name)]
    return LoadReport(
        loaded,
        [name for name in after if name not in loaded],
        [name for name in loaded if is_under(name, model.frozen)],
        [name for name in before if name not in after or name not in loaded],
        sum(p.numel() for p in model.parameters() if p.requires_grad),
    )
