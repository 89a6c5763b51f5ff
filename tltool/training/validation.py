"""Predict the rows of a part of the data with a model, and compute its error on the validation rows."""

import numpy as np
import torch
from torch import Tensor

from tltool import interruption
from tltool.data.batches.batches import Batches
from tltool.data.batches.tensor_table import Batch, evaluation_size
from tltool.data.record import Floats
from tltool.errors import InapplicableError
from tltool.model.property_model import PropertyModel
from tltool.model.scaler import ClassScaler
from tltool.training import distributed
from tltool.training.settings import Values

NO_STRUCTURE = "a formula has no structure, but this model needs one"


def check_structures(model: PropertyModel, data: Batches) -> None:
    """Raise InapplicableError if ``data`` are formulas and ``model`` reads more than the element embedding."""
    if data.bare and model.needs_structures:
        raise InapplicableError(
            "This needs structures, but the data are formulas; use the element embedding of a pretrained encoder: "
            "tltool transfer mode=features mode.level=[0]."
        )


def validate(model: PropertyModel, data: Batches, values: Values | None = None) -> tuple[float, dict[str, float]]:
    """Return the validation error and the MAE of each quantity in its unit.

    The validation error is in standard deviations of the scaler, of a class the cross-entropy, averaged over
    quantities; the MAE of a class is the mean probability that is given to wrong classes. Without a validation row it
    is infinite, so that no epoch counts as better than another.
    """
    if not len(data.split["val"]):
        return float("inf"), {}
    return errors_of(model, data, predict(model, data, "val", values))


def errors_of(model: PropertyModel, data: Batches, predicted: Floats) -> tuple[float, dict[str, float]]:
    """Return the result of ``validate`` from predictions (r, v) for the validation rows."""
    label = data.labels[data.split["val"]].cpu().numpy()
    maes: dict[str, float] = {}
    scaled: list[float] = []
    for name, at in data.columns.items():
        known = np.isfinite(label[:, at.start])
        if known.any():
            # Of several classes, what one is given too much is missing in others.
            share = 1.0 if at.stop - at.start == 1 else 0.5
            maes[name] = float(np.abs(predicted[known, at] - label[known, at]).sum(1).mean()) * share
            pair = [torch.from_numpy(side[known, at].astype(np.float64)) for side in (predicted, label)]
            if not isinstance(model.scalers[name], ClassScaler):
                pair = [side[:, 0] for side in pair]
            scaled.append(float(model.scalers[name].distance(*pair).mean()))  # type: ignore[operator]
    return (float(np.mean(scaled)) if scaled else float("inf")), maes


@torch.no_grad()
def predict(model: PropertyModel, data: Batches, part: str, values: Values | None = None) -> Floats:
    """Return predictions (r, v) for the rows of ``part``, in evaluation mode, each in the unit of its quantity."""
    check_structures(model, data)
    model.eval()

    def labels(batch: Batch) -> Tensor:
        interruption.check()
        return model.labels(values(model, batch), batch.graph) if values else model(batch.graph)

    rows = [distributed.gathered(labels, batch) for batch in data.of(part, evaluation_size(data.table))]
    if not rows:
        return np.empty((0, data.labels.shape[1]))
    return torch.cat(rows).double().cpu().numpy()
