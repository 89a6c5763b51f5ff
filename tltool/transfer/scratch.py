"""Train the baseline: fresh weights, with the shape and the budget of the source."""

import torch

from tltool.data.batches.batches import Batches
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit
from tltool.training.fit import Fit, train
from tltool.training.scaled_labels import scalers
from tltool.transfer.steps.load_report import announce


def scratch(source: PropertyModel, data: Batches, fit: Fit, /) -> PropertyModel:
    """Return a model with the shape of ``source``, trained on ``data`` only; no weight of the source is used."""
    torch.manual_seed(fit.seed)
    model = edit.copy_of(source)
    edit.renew(model)
    model.spec |= {"elements": [], "provenance": [], "further_provenance": []}
    model.seen = {}
    edit.new_heads(model, scalers(data, fit.settings.reference, fit.settings.scale))
    announce(source, model, data, fit)
    train(model, data, fit)
    return model
