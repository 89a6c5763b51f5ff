"""What is done to a model between source and target: copy, renew, replace the head, freeze, and say so.

Every function that changes something works on the model it is given; ``copy_of`` keeps the source as it was.
"""

import copy
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from tltool.crystal_graph import Graph
from tltool.errors import ConfigError, InapplicableError, standing_at
from tltool.model import heads
from tltool.model.norm import WeightedBatchNorm
from tltool.model.property_model import PropertyModel, is_under
from tltool.model.readouts.concatenated import Beside
from tltool.model.readouts.pool import Pool, encoder_facts, pool_of_sites
from tltool.model.scaler import Scaler
from tltool.model.sklearn_head import EstimatorHead, Standardise
from tltool.model.surgery.low_rank import plain

# What the spec may hold about one transfer alone: how many numbers it trained, where the tensors do not say so, how the
# mode was chosen, and which functionals were new to the source.
OF_ONE_TRANSFER = ("trainable_parameters", "auto", "new_functionals")


class LoadReport(NamedTuple):
    """What became of the source's tensors: names ``loaded``, made ``new``, ``frozen`` (of the loaded), ``dropped``."""

    loaded: list[str]
    new: list[str]
    frozen: list[str]
    dropped: list[str]
    trainable_parameters: int


def copy_of(model: PropertyModel) -> PropertyModel:
    """Return an independent copy with everything trainable."""
    twin = copy.deepcopy(model)
    twin.frozen = ()
    for key in OF_ONE_TRANSFER:
        twin.spec.pop(key, None)
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    return twin


def renew(module: nn.Module) -> None:
    """Draw all parameters of ``module`` afresh, running statistics included.

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


def give_features(
    model: PropertyModel, levels: list[int], statistics: list[str], beside: list[str], bare: bool
) -> None:
    """Let ``model``'s readout be ``statistics`` of ``levels`` and what ``beside`` names (see ``concatenated.Beside``).

    The trunk only standardises, by what it is fitted on later. ``bare`` data are formulas: they have no edge, so an
    encoder's features of edges say nothing of them and are left out. Raises ConfigError for a word or level there is
    not.
    """
    given, device = encoder_facts(model.encoder), next(model.encoder.parameters()).device
    node: dict[str, Any] = {"levels": levels, "statistics": statistics}
    if not beside:
        pool = pool_of_sites if bare else Pool
        node = {"_target_": f"tltool.model.readouts.pool.{pool.__name__}", **node}
        with standing_at("mode", "readout"):
            model.readout = pool(*given, levels=levels, statistics=statistics)
    else:
        nodes = {name: model.spec[name] for name in ("readout", "trunk", "head") if name in model.spec}
        logs = list(model.spec.get("logarithmic", ()))
        facts = {
            "beside": beside,
            "quantities": model.quantities,
            "logarithmic": logs,
            "sites_only": bare,
            "parts": nodes,
        }
        node = {"_target_": "tltool.model.readouts.concatenated.Beside", **node, **facts}
        if "labels" in beside and any(isinstance(head, EstimatorHead) for head in model.heads.values()):
            raise InapplicableError(
                "mode.beside: labels needs a source with a network's heads, and this one has an estimator."
            )
        own = {"readout": lambda *given: model.readout, "trunk": lambda *given: model.trunk, "head": model.fresh_head}
        with standing_at("mode", "readout"):
            readout = Beside(
                *given,
                levels=levels,
                statistics=statistics,
                beside=beside,
                quantities=model.quantities,
                logarithmic=logs,
                sites_only=bare,
                parts=own,
            )
        if "labels" in beside:
            readout.heads.load_state_dict(model.heads.state_dict())
            readout.scalers.load_state_dict(model.scalers.state_dict())
        model.readout = readout.to(device)
    model.trunk = Standardise(model.readout.dim).to(device)
    model.spec["readout"], model.spec["trunk"] = node, {"_target_": "tltool.model.sklearn_head.Standardise"}
    linear_heads(model)


def linear_heads(model: PropertyModel) -> None:
    """Let further heads of ``model`` be linear maps, whatever its source's were."""
    model.fresh_head = heads.linear
    model.spec.pop("head", None)


def new_heads(model: PropertyModel, scalers: dict[str, Scaler]) -> None:
    """Give ``model`` a fresh head of its kind for each quantity of ``scalers``, and those scalers."""
    device = next(model.encoder.parameters()).device
    width: int = model.trunk.dim  # type: ignore[assignment]
    model.heads = nn.ModuleDict({name: model.fresh_head(width) for name in scalers}).to(device)
    model.scalers = nn.ModuleDict(scalers).to(device)


def give_head(model: PropertyModel, scalers: dict[str, Scaler], head: str) -> None:
    """Do what the key ``mode.head`` says: ``new`` draws heads for ``scalers``, ``keep`` keeps the source's."""
    if head not in ("new", "keep"):
        raise ConfigError(f"mode.head={head!r} is not known; use new or keep.")
    new_heads(model, scalers) if head == "new" else keep_head(model, scalers)


def keep_head(model: PropertyModel, scalers: dict[str, Scaler]) -> None:
    """Let ``model`` keep its head for the quantity of ``scalers``; the scaler too if the quantity is the same.

    Raises ConfigError where there is more than one quantity on the target's side, or no head to take.
    """
    (name, *others) = scalers
    if others:
        raise ConfigError("mode.head=keep works for one quantity at a time; use mode.head=new.")
    source = name if name in model.heads else next(iter(model.heads))
    if name not in model.heads and len(model.heads) > 1:
        raise ConfigError(f"mode.head=keep: the source has no head for {name} and several others; use mode.head=new.")
    if isinstance(model.heads[source], EstimatorHead):
        raise ConfigError(
            "mode.head=keep: the source's head is an estimator, which cannot be trained on; use mode.head=new."
        )
    device = next(model.encoder.parameters()).device
    kept = model.scalers[name] if name in model.scalers else scalers[name].to(device)
    model.heads, model.scalers = nn.ModuleDict({name: model.heads[source]}), nn.ModuleDict({name: kept})


def freeze(model: PropertyModel, parts: list[str]) -> None:
    """Freeze every tensor whose dotted name, or a part it stands in, a regex of ``parts`` matches as a whole.

    Frozen parameters take no gradient, and frozen modules stay in evaluation mode, so that no buffer moves either.
    Raises ConfigError for a pattern that matches nothing.
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
            raise ConfigError(f"{key}: {pattern!r} is not a regular expression ({error}).") from error
        if not hit:
            known = ", ".join(name for name in parts if name.count(".") < 3)
            raise ConfigError(f"{key}: no part is called {pattern!r}; there are {known}.")


@torch.no_grad()
def new_functionals(model: PropertyModel, names: Sequence[str]) -> None:
    """Let ``model`` tell the functionals ``names`` from those that it knows; each starts from the mean of those."""
    known = model.encoder.functional.weight  # type: ignore[union-attr]
    rows = known.mean(0, keepdim=True).expand(len(names), -1)  # type: ignore[operator]
    model.encoder.functional.weight = nn.Parameter(torch.cat([known, rows]))  # type: ignore[union-attr,list-item]
    model.spec["functionals"] = [*model.spec["functionals"], *names]


@torch.no_grad()
def refit_statistics(model: PropertyModel, graph: Graph) -> None:
    """Set the running statistics of every normalisation to those of ``graph``, the training rows as one batch.

    Raises ConfigError where there is no edge to take them from.
    """
    if not len(graph.neighbour):
        raise ConfigError(
            "mode.refit_statistics=true needs edges, which the training rows have not; use mode.refit_statistics=false."
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
    """Compare ``model`` with the ``source`` it was made from, tensor by tensor."""
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
