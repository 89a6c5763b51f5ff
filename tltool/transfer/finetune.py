"""Full fine-tuning: start from the source's weights and train everything, with optional layer-wise rates."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tltool.data.batches.batches import Batches
from tltool.errors import ConfigError
from tltool.instantiate import Idle
from tltool.model.property_model import PropertyModel, is_under
from tltool.model.surgery import edit
from tltool.model.surgery.layer_depth import below, depths
from tltool.training.fit import Fit, train
from tltool.training.scaled_labels import scalers
from tltool.transfer.steps import replay as replaying
from tltool.transfer.steps.load_report import announce


def finetune(
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    /,
    *,
    head: str,
    lr_scale: dict[str, float] | None,
    layer_decay: float,
    unfreeze: int | None,
    probe_first: bool,
    l2_sp: float,
    replay: float,
) -> PropertyModel:
    """Return ``source`` after training all its parameters on ``data``.

    ``head`` new draws one, keep takes the source's (and its scaler, if the quantity is the same, so that no training
    changes nothing). ``lr_scale`` (null for none) maps a regex of parts to a factor on the learning rate; the first
    that matches counts. ``layer_decay`` is a further factor for each step away from the head (see ``model.depth``), 1
    for none. ``unfreeze`` starts with the head alone and lets one step more join in every so many epochs, null for all
    at once (both Howard and Ruder, arXiv:1801.06146). ``probe_first`` trains the head alone before the rest joins in
    (Kumar and others, arXiv:2202.10054). ``l2_sp`` weighs the squared distance to the source's weights (Li and others,
    arXiv:1802.01483), heads excepted. ``replay`` is the weight of the source's loss on rows of its own (see
    ``steps.replay``); 0 for none.
    """
    torch.manual_seed(fit.seed)
    model = edit.copy_of(source)
    edit.give_head(model, scalers(data, fit.settings.reference, fit.settings.scale), head)
    edit.matched(model, list(lr_scale or ()), "mode.lr_scale")
    if not 0 <= layer_decay <= 1:
        raise ConfigError(
            f"mode.layer_decay={layer_decay} must be between 0 and 1; 1 means one learning rate for all layers."
        )
    depth = depths(model)
    last = max(depth.values())
    if unfreeze is not None and (unfreeze < 1 or 0 < fit.settings.epochs <= unfreeze * last):
        raise ConfigError(
            f"mode.unfreeze={unfreeze}: the lowest part would start to train in epoch {unfreeze * last + 1} of "
            f"fit.epochs={fit.settings.epochs}; use a smaller number of at least 1, more epochs, or null."
        )
    announce(source, model, data, fit)
    if probe_first:
        edit.freeze(model, ["encoder", "readout", "trunk"])
        train(model, data, fit)
        edit.freeze(model, [])
    anchor = {n: p.detach().clone() for n, p in model.named_parameters() if not n.startswith("heads.")} if l2_sp else {}

    def distance() -> Tensor:
        parameters = dict(model.named_parameters())
        return l2_sp * torch.stack([(parameters[n] - p).square().sum() for n, p in anchor.items()]).sum()

    def factor(name: str) -> float:
        given = next((f for pattern, f in (lr_scale or {}).items() if is_under(name, (pattern,))), 1.0)
        # What is not there is the head of the source.
        return given * layer_decay ** depth.get(name, 0)

    def release(epoch: int) -> None:
        held = below(model, (epoch - 1) // (unfreeze or 1))
        if tuple(held) != model.frozen:
            edit.freeze(model, held)

    held_back = release if unfreeze else None
    with replaying.beside(source, model, fit, replay) as further:
        train(model, data, fit, scale=factor, penalty=distance if l2_sp else None, before=held_back, further=further)
    if unfreeze:
        edit.freeze(model, [])
    return model


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return the keys that have no effect without training (see ``instantiate.idle_keys``)."""
    if config["fit"]["epochs"]:
        return {}
    return dict.fromkeys(
        ("lr_scale", "layer_decay", "unfreeze", "probe_first", "l2_sp", "replay"),
        Idle("fit.epochs=0 trains nothing", "raise fit.epochs"),
    )
