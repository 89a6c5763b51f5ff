"""Freeze named parts of the source and train the rest."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from tltool.data.batches.batches import Batches
from tltool.errors import ConfigError
from tltool.instantiate import Idle
from tltool.model.property_model import PropertyModel, is_under
from tltool.model.surgery import edit
from tltool.training.fit import Fit, Values, train
from tltool.training.scaled_labels import scalers
from tltool.transfer.steps import embeddings
from tltool.transfer.steps import replay as replaying
from tltool.transfer.steps.load_report import announce


def freeze(
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    /,
    *,
    parts: list[str],
    head: str,
    refit_statistics: bool,
    replay: float,
) -> PropertyModel:
    """Return ``source`` after training on ``data``, with ``parts`` (regexes of names) unchanged to the bit.

    ``head`` and ``replay`` as in ``finetune``. ``refit_statistics`` replaces the running means and variances of
    normalisation by those of the training rows first, so that frozen layers see inputs of the spread they were trained
    with.
    """
    torch.manual_seed(fit.seed)
    model = edit.copy_of(source)
    edit.give_head(model, scalers(data, fit.settings.reference, fit.settings.scale), head)
    if refit_statistics:
        edit.refit_statistics(model, data.graph("train"))
    edit.freeze(model, parts)
    if model.spec.get("conditions") and is_under("trunk.add.weight", model.frozen):
        raise ConfigError(
            f"mode.parts={list(parts)} freezes the layer that reads data.conditions; leave the trunk out."
        )
    values: Values | None = None
    if embeddings.is_fixed(model):
        # Nothing below the trunk changes: each record is embedded once, not once an epoch.
        values = partial(embeddings.values_of_embedding, embeddings.table(model, data))
    announce(source, model, data, fit, values)
    with replaying.beside(source, model, fit, replay) as further:
        train(model, data, fit, values=values, further=further)
    return model


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return the keys that have no effect without training (see ``instantiate.idle_keys``)."""
    return {} if config["fit"]["epochs"] else {"replay": Idle("fit.epochs=0 trains nothing", "raise fit.epochs")}
