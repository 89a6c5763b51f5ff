"""What a frozen encoder makes of each record, once: the table that ``freeze`` and ``features`` train on."""

import torch
from torch import Tensor

from tltool.data.dataset import Batches
from tltool.data.loading import evaluation_size
from tltool.errors import ConfigError
from tltool.model.property_model import PropertyModel, is_under


@torch.no_grad()
def table(model: PropertyModel, data: Batches) -> Tensor:
    """Return (n, dim): the embedding of every record of a part of ``data``, zeros elsewhere; evaluation mode."""
    was = model.training
    model.eval()
    made: Tensor | None = None
    for rows in torch.split(torch.cat([data.split[part] for part in data]), evaluation_size(data.table)):
        part = model.embed(data.table.select(rows))
        if made is None:
            made = part.new_zeros(len(data.table), part.shape[1])
        made[rows] = part
    if made is None:
        raise ConfigError("There is no row to embed; check the split.")
    model.train(was)
    return made


def is_fixed(model: PropertyModel) -> bool:
    """Say whether encoder and readout are frozen as a whole, so that every embedding stays what it is."""
    names = [name for name, _ in model.named_modules() if name.split(".")[0] in ("encoder", "readout")]
    own = {name: list(model.get_submodule(name).parameters(recurse=False)) for name in names}
    buffers = {name: list(model.get_submodule(name).buffers(recurse=False)) for name in names}
    return all(is_under(name, model.frozen) for name in names if own[name] or buffers[name])
