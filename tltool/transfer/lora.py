"""Low-rank adaptation: train the head and low-rank updates of linear maps; everything else is fixed."""

from collections.abc import Mapping
from typing import Any

import torch

from tltool.data.batches.batches import Batches
from tltool.instantiate import Idle
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit, low_rank
from tltool.training.fit import Fit, train
from tltool.training.scaled_labels import scalers
from tltool.transfer.steps import replay as replaying
from tltool.transfer.steps.load_report import announce


def lora(
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    /,
    *,
    rank: int,
    alpha: float,
    maps: list[str],
    head: str,
    refit_statistics: bool,
    replay: float,
) -> PropertyModel:
    """Return ``source`` after training its head and updates of ``rank`` on its linear ``maps`` on ``data``.

    ``maps`` are regexes of names; each map W becomes W + (``alpha`` / rank) B A with B, A trained (Hu and others,
    arXiv:2106.09685), added up at the end. Everything else of the backbone rests, running statistics included; ``head``
    and ``replay`` as in ``finetune``, ``refit_statistics`` as in ``freeze``.
    """
    torch.manual_seed(fit.seed)
    model = edit.copy_of(source)
    edit.give_head(model, scalers(data, fit.settings.reference, fit.settings.scale), head)
    if refit_statistics:
        edit.refit_statistics(model, data.graph("train"))
    edit.freeze(model, ["encoder", "readout", "trunk"])
    low_rank.insert(model, maps, rank, alpha)
    announce(source, model, data, fit)
    with replaying.beside(source, model, fit, replay) as further:
        train(model, data, fit, further=further)
    model.spec["trainable_parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    low_rank.merge(model)
    return model


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return the keys that have no effect without training (see ``instantiate.idle_keys``)."""
    if config["fit"]["epochs"]:
        return {}
    return dict.fromkeys(("rank", "alpha", "maps", "replay"), Idle("fit.epochs=0 trains nothing", "raise fit.epochs"))
