"""Full fine-tune: the source's weights, everything trains."""

import torch
from torch import Tensor

from tltool.data.dataset import Batches
from tltool.errors import ConfigError
from tltool.model import surgery
from tltool.model.property_model import PropertyModel, is_under
from tltool.training.fit import Fit, scalers, train
from tltool.training.start import announce


def finetune(
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    /,
    *,
    head: str,
    lr_scale: dict[str, float] | None,
    probe_first: bool,
    l2_sp: float,
) -> PropertyModel:
    """Return ``source`` trained on to another quantity.

    ``head`` new draws one, keep takes the source's (and its scaler, if the quantity is the same, so that no training
    changes nothing). ``lr_scale`` (null for none) maps a regex of parts to a factor on the learning rate; the first
    that matches counts. ``probe_first`` trains the head alone before the rest joins in (Kumar and others,
    arXiv:2202.10054). ``l2_sp`` weighs the squared distance to the source's weights (Li and others, arXiv:1802.01483),
    heads excepted.
    """
    torch.manual_seed(fit.seed)
    model = surgery.copy_of(source)
    fresh = scalers(data, fit.settings.reference)
    if head not in ("new", "keep"):
        raise ConfigError(f"mode.head={head!r} is not known; use new or keep.")
    surgery.new_heads(model, fresh) if head == "new" else surgery.keep_head(model, fresh)
    surgery.matched(model, list(lr_scale or ()), "mode.lr_scale")
    announce(source, model, data, fit)
    if probe_first:
        surgery.freeze(model, ["encoder", "readout", "trunk"])
        train(model, data, fit)
        surgery.freeze(model, [])
    anchor = {n: p.detach().clone() for n, p in model.named_parameters() if not n.startswith("heads.")} if l2_sp else {}

    def distance() -> Tensor:
        parameters = dict(model.named_parameters())
        return l2_sp * torch.stack([(parameters[n] - p).square().sum() for n, p in anchor.items()]).sum()

    def factor(name: str) -> float:
        return next((f for pattern, f in (lr_scale or {}).items() if is_under(name, (pattern,))), 1.0)

    train(model, data, fit, scale=factor, penalty=distance if l2_sp else None)
    return model
