"""Compute the embeddings of a frozen encoder once for each record: the input of ``freeze`` and ``features``."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tltool import interruption
from tltool.data.batches.batches import Batches
from tltool.data.batches.tensor_table import Batch, evaluation_size
from tltool.errors import ConfigError
from tltool.model.property_model import PropertyModel, is_under
from tltool.training.validation import check_structures


@torch.no_grad()
def table(model: PropertyModel, data: Batches) -> Tensor:
    """Return the embeddings (n, dim) of all records that are in a part of ``data``, else zeros; in evaluation mode."""
    check_structures(model, data)
    was = model.training
    model.eval()
    made: Tensor | None = None
    for rows in _pieces(data):
        part = model.embed(data.table.select(rows))
        if made is None:
            made = part.new_zeros(len(data.table), part.shape[1])
        made[rows] = part
    if made is None:
        raise ConfigError("There are no rows to embed; check the split.")
    model.train(was)
    return made


@torch.no_grad()
def sites(model: PropertyModel, data: Batches, levels: Sequence[int]) -> Tensor:
    """Return the features (n nodes of the table, f) of each node at ``levels`` of the encoder, concatenated.

    Nodes of records in no part of ``data`` get zeros; evaluation mode.
    """
    check_structures(model, data)
    was = model.training
    model.eval()
    first = next(model.encoder.parameters())
    width = int(model.encoder.dim) * len(levels)  # type: ignore[arg-type]
    made = first.new_zeros(len(data.table.number), width)
    for rows in _pieces(data):
        found = model.levels(data.table.select(rows))
        made[data.table.nodes(rows)] = torch.cat([found[level] for level in levels], dim=1)
    model.train(was)
    return made


def _pieces(data: Batches) -> Iterator[Tensor]:
    for rows in torch.split(torch.cat([data.split[part] for part in data]), evaluation_size(data.table)):
        interruption.check()
        yield rows


def is_fixed(model: PropertyModel) -> bool:
    """Return whether encoder and readout are completely frozen, so that no embedding changes."""
    names = [name for name, _ in model.named_modules() if name.split(".")[0] in ("encoder", "readout")]
    own = {name: list(model.get_submodule(name).parameters(recurse=False)) for name in names}
    buffers = {name: list(model.get_submodule(name).buffers(recurse=False)) for name in names}
    return all(is_under(name, model.frozen) for name in names if own[name] or buffers[name])


def values_of_embedding(table: Tensor, model: PropertyModel, batch: Batch) -> Tensor:
    """Return network values (c, v) from the ``table`` (n, dim) of embeddings."""
    return model.values(table[batch.rows])


def values_of_hidden(table: Tensor, model: PropertyModel, batch: Batch) -> Tensor:
    """Return network values (c, v) from the ``table`` (n, dim) of inputs of the heads."""
    return model.values_of_hidden(table[batch.rows])
