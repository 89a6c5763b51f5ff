"""Features only: the frozen backbone embeds each record once, and something simple learns on that table."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tltool.data.dataset import Batches
from tltool.data.loading import Batch
from tltool.errors import ConfigError
from tltool.model import surgery
from tltool.model.estimator import Standardise, as_head
from tltool.model.property_model import PropertyModel
from tltool.training import embedded
from tltool.training.fit import Fit, goals_of, scalers, train
from tltool.training.start import announce


def features(
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    /,
    *,
    level: int | str | list[int],
    statistics: list[str],
    beside: list[str],
    regressor: Any | None,
    refit_statistics: bool,
) -> PropertyModel:
    """Return the frozen backbone of ``source`` with a regressor on its features.

    ``level``: ``trunk`` takes the vector that the source's head sees; a number, or several, takes ``statistics`` (mean,
    spread) over those levels of the encoder as ``Pool`` does, standardised on the training rows. What ``beside`` names
    (see ``model.beside``) stands beside the levels, of which there may then be none. ``regressor`` is an
    unfitted estimator (its fit sees training rows only); a linear one becomes an ordinary head, and null trains a
    linear head with ``fit``. ``refit_statistics`` as in ``freeze``.
    """
    torch.manual_seed(fit.seed)
    model = surgery.copy_of(source)
    fresh = scalers(data, fit.settings.reference, fit.settings.scale)
    if refit_statistics:
        surgery.refit_statistics(model, data.graph("train"))
    if level != "trunk":
        if isinstance(level, str):
            raise ConfigError(f"mode.level={level!r} is not known; use trunk, a number or a list of numbers.")
        levels = [level] if isinstance(level, int) else list(level)
        surgery.give_features(model, levels, list(statistics), list(beside))
    elif beside:
        raise ConfigError(
            "mode.beside needs mode.level to be a list of levels, which may be empty; trunk can stand in it."
        )
    surgery.new_heads(model, fresh)
    surgery.freeze(model, ["encoder", "readout", "trunk"])
    model.eval()

    table = embedded.table(model, data)
    if isinstance(model.trunk, Standardise):
        model.trunk.fit(table[data.split["train"]])
    table = _hidden(model, table)

    def values(model: PropertyModel, batch: Batch) -> Tensor:
        rows = table[batch.rows]
        return torch.stack([head(rows).squeeze(-1) for head in model.heads.values()], dim=1)

    announce(source, model, data, fit, values)
    if regressor is None:
        train(model, data, fit, values=values)
        return model
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning

    rows = data.split["train"]
    goals = goals_of(model, data)[rows].double().cpu().numpy()
    inputs = table[rows].double().cpu().numpy()
    heads: dict[str, nn.Module] = {}
    for k, name in enumerate(data.quantities):
        present = np.isfinite(goals[:, k])
        with warnings.catch_warnings():
            # A kernel's parameter that ends at its bound is no fault: a feature that says nothing.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = clone(regressor).fit(inputs[present], goals[present, k])
        heads[name] = as_head(fitted, inputs.shape[1])
    model.heads = nn.ModuleDict(heads).to(data.labels.device)
    return model.eval()


@torch.no_grad()
def _hidden(model: PropertyModel, table: Tensor) -> Tensor:
    return model.trunk(table)  # type: ignore[no-any-return]
