"""Compute the features of the frozen backbone once for each record, and fit a regressor on them."""

import copy
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tltool.data.batches.batches import Batches
from tltool.data.batches.tensor_table import Batch
from tltool.data.record import Floats
from tltool.errors import ConfigError, InapplicableError
from tltool.instantiate import TRAINING, Idle
from tltool.model import process_ensemble
from tltool.model.additive_gp import AdditiveGP
from tltool.model.property_model import PropertyModel
from tltool.model.readouts.atom_set import AtomSet, Layers, SetModel
from tltool.model.readouts.pool import encoder_facts
from tltool.model.scaler import ClassScaler, Scaler
from tltool.model.sklearn_head import FixedHead, Standardise, as_head
from tltool.model.surgery import edit, feature_readout
from tltool.potentials import physics
from tltool.training.fit import Fit, train
from tltool.training.scaled_labels import goals_of, label_weights, scalers
from tltool.transfer.steps import classifiers, embeddings, sklearn_fit
from tltool.transfer.steps.load_report import announce

_SET_MODEL = f"{SetModel.__module__}.{SetModel.__name__}"
_LEVELS = [0, 1]
_LEVELS_OF_FORMULAS = [0]
_WITHOUT_NETWORK = {"elements", "geometry"}
_PROCESS = f"{AdditiveGP.__module__}.{AdditiveGP.__name__}"


def features(
    source: PropertyModel,
    data: Batches,
    fit: Fit,
    /,
    *,
    level: int | str | list[int] | None,
    statistics: list[str],
    extra_features: list[str] | None,
    regressor: Any | None,
    refit_statistics: bool,
) -> PropertyModel:
    """Return the frozen backbone of ``source`` with a regressor on its features.

    ``level``: ``trunk`` takes the input of the source's head. A number, or several, takes ``statistics`` (mean, std)
    over those levels of the encoder as ``Pool`` does, standardised on the training rows. null takes levels 0 and 1, and
    level 0 where the data are formulas, which have no other. ``extra_features`` (see ``concatenated.Concatenated``) are
    appended to the levels; the list of levels may then be empty. null takes none, and for an ``AdditiveGP`` all but the
    trunk that source and data have. ``regressor`` is an unfitted estimator, fitted on the training rows only; of a
    class, its counterpart among classifiers is (``steps.classifiers``). A linear one becomes an ordinary head. null
    trains a linear head with ``fit``, or at the trunk a head of the source's kind. A ``SetModel`` learns on the sites
    instead and is trained with ``fit``. ``refit_statistics`` is as in ``freeze``. Raise ConfigError for a combination
    that makes no sense.
    """
    torch.manual_seed(fit.seed)
    model = edit.copy_of(source)
    fresh = scalers(data, fit.settings.reference, fit.settings.scale)
    if refit_statistics:
        edit.refit_statistics(model, data.graph("train"))
    if extra_features is not None:
        named = physics.blocks_of(extra_features)
        extra_features = [word for word in extra_features if word not in (physics.WORD, *named)] + named
    levels = _levels(level, data.bare)
    if extra_features is None:
        blocks = isinstance(regressor, AdditiveGP) and levels is not None
        extra_features = _all_blocks(source, data.bare) if blocks else []
    if extra_features and (levels is None or isinstance(regressor, SetModel)):
        raise ConfigError(
            "mode.extra_features needs a regressor of scikit-learn and a list of levels, as in mode.level=[]; "
            "mode.extra_features=[trunk] takes the trunk."
        )
    if (source.more_sources or source.potentials) and (levels is None or isinstance(regressor, SetModel)):
        raise InapplicableError(
            "mode.level=trunk and set models take one network as source; name one, or levels as in mode.level=[1]."
        )
    if source.spec.get("conditions") and (levels is None or isinstance(regressor, SetModel)):
        raise InapplicableError(
            "mode.level=trunk and set models read the crystal alone, and data.conditions names more; use levels, as in "
            "mode.level=[1], with a regressor of scikit-learn."
        )
    if isinstance(regressor, SetModel):
        return _on_sites(source, model, data, fit, levels, regressor, fresh)
    if levels is not None:
        feature_readout.give_features(model, levels, list(statistics), list(extra_features), data.bare)
        feature_readout.fill_missing(model, data.table.potential, data.split["train"])
    if regressor is not None:
        edit.linear_heads(model)
    edit.new_heads(model, fresh)
    edit.freeze(model, ["encoder", "readout", "trunk"])
    model.eval()

    table = embeddings.table(model, data)
    if isinstance(model.trunk, Standardise):
        model.trunk.fit(table[data.split["train"]], _of_rows(data))
    table = _hidden(model, table)
    values = partial(embeddings.values_of_hidden, table)
    announce(source, model, data, fit, values)
    if regressor is None:
        train(model, data, fit, values=values)
        return model
    _fit_heads(model, data, table, regressor, fit)
    return model.eval()


def _fit_heads(model: PropertyModel, data: Batches, table: Tensor, regressor: Any, fit: Fit) -> None:
    """Give ``model`` a head for each quantity: ``regressor`` fitted to its training rows of ``table`` (n, f)."""
    rows = data.split["train"]
    goals = goals_of(model, data)[rows].double().cpu().numpy()
    inputs = table[rows].double().cpu().numpy()
    weights = label_weights(data, dict(model.scalers.items()))
    heads: dict[str, nn.Module] = {}
    for k, (name, at) in enumerate(data.columns.items()):
        present = np.isfinite(goals[:, at.start])
        rows_of, goal = inputs[present], goals[present, at]
        counts = None if weights is None else weights[rows, k].double().cpu().numpy()[present]
        if isinstance(model.scalers[name], ClassScaler):
            classes = (goal[:, 0] if goal.shape[1] == 1 else goal.argmax(1)).astype(np.int64)
            names = data.known[name].class_names
            heads[name] = classifiers.fitted_head(regressor, rows_of, classes, len(names), partial(_say, fit), counts)
        elif isinstance(regressor, AdditiveGP):
            heads[name] = _process(regressor, rows_of, goal[:, 0], counts, model, fit, name)
        else:
            classifiers.require_regressor(regressor, name)
            heads[name] = _estimator(regressor, rows_of, goal[:, 0], counts)
    model.heads = nn.ModuleDict(heads).to(data.labels.device)


def _say(fit: Fit, text: str) -> None:
    fit.log({"event": "say", "text": text})


def _of_rows(data: Batches) -> Tensor | None:
    """Return (r,): how much each training row counts, whatever its labels; None if equally."""
    return None if data.weight is None else data.weight[data.split["train"]]


def _estimator(regressor: Any, inputs: Floats, goals: Floats, counts: Floats | None) -> nn.Module:
    return as_head(sklearn_fit.fitted(regressor, inputs, goals, counts), inputs.shape[1])


def _process(
    regressor: AdditiveGP,
    inputs: Floats,
    goals: Floats,
    counts: Floats | None,
    model: PropertyModel,
    fit: Fit,
    name: str,
) -> nn.Module:
    widths = getattr(model.readout, "widths", None) or {"trunk": inputs.shape[1]}
    if len(inputs) > regressor.most_rows:
        said = f"The Gaussian process takes {regressor.most_rows:,} of {len(inputs):,} training rows ("
        _say(fit, said + "mode.regressor.most_rows).")
    fitting = _joint_with_conditions(regressor, widths)
    began = time.perf_counter()
    head = process_ensemble.fitted(fitting, inputs, goals, widths, counts, trial=fit.trial)
    if fit.trial:
        tried, kept = (process_ensemble.members_of(regressor, len(inputs), trial) for trial in (True, False))
        seconds = (kept / tried - 1) * (time.perf_counter() - began)
        fit.log({"event": "kept_takes_longer", "seconds": seconds})
    shares = head.shares()  # type: ignore[operator]
    parts = ", ".join(f"{block} {share:.0%}" for block, share in shares.items() if share > 0)
    none = [block for block, share in shares.items() if share == 0]
    left_out = f"; of no use: {', '.join(none)}" if none else ""
    fit.log(
        {"event": "say", "text": f"Blocks of features for {name}, by their share of the variance: {parts}{left_out}."}
    )
    fit.log({"event": "blocks", "quantity": name, "shares": shares})
    return head


def _joint_with_conditions(regressor: AdditiveGP, widths: Mapping[str, int]) -> AdditiveGP:
    """Return ``regressor`` with joint kernels of conditions and crystal, as a condition acts differently on each."""
    if "conditions" not in widths:
        return regressor
    others = [name for name in widths if name != "conditions"]
    groups = [*regressor.joint, *([others] if len(others) > 1 else [])] or [others]
    twin = copy.copy(regressor)
    twin.joint = [*regressor.joint, *([*names, "conditions"] for names in groups)]
    return twin


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /) -> dict[str, Idle]:
    """Return the keys of ``node`` that have no effect with its other keys (see ``instantiate.idle_keys``)."""
    regressor = str((node.get("regressor") or {}).get("_target_", ""))
    level, extra = node.get("level"), node.get("extra_features") or []
    found: dict[str, Idle] = {}
    if regressor == _SET_MODEL:
        why = "a set model reads the features of sites, so there are no statistics over sites"
        found["statistics"] = Idle(why, "choose its pools, as {at}.regressor.pools=[mean,set2set]")
    elif regressor:
        name = regressor.rpartition(".")[2]
        why = f"features fits {name} directly and trains nothing in steps"
        found[TRAINING] = Idle(why, "leave it out, or train a linear head with {at}.regressor=null")
    if level in ("trunk", []):
        why = f"{{at}}.level={level} needs no statistics over sites".replace("'", "")
        found.setdefault("statistics", Idle(why, "name levels, as {at}.level=[0,1]"))
    own_choice = regressor == _PROCESS and node.get("extra_features") is None
    levels = None if level is None or own_choice else _levels(level, False)
    if levels is not None and set(levels) <= {0} and set(extra) <= _WITHOUT_NETWORK:
        why = "level 0, elements and geometry need no normalisation layer"
        found["refit_statistics"] = Idle(why, "name a higher level, as {at}.level=[0,1]")
    return found


def _all_blocks(source: PropertyModel, bare: bool) -> list[str]:
    """Return the extra features that ``source`` has, of ``bare`` formulas those that they have; not the trunk."""
    if bare:
        return ["elements"]
    has_labels = not any(isinstance(head, FixedHead) for head in source.heads.values())
    has_labels &= not any(isinstance(s, ClassScaler) or s.bounds for s in source.scalers.values())
    return ["elements", "geometry", *(["labels"] if has_labels else [])]


def _levels(level: int | str | list[int] | None, bare: bool) -> list[int] | None:
    """Return the levels of the encoder in ``level``; None for the trunk."""
    if level is None:
        return list(_LEVELS_OF_FORMULAS if bare else _LEVELS)
    if level == "trunk":
        return None
    if isinstance(level, str):
        raise ConfigError(f"mode.level={level!r} is not known; use trunk, a number or a list of numbers.")
    return [level] if isinstance(level, int) else list(level)


def _on_sites(
    source: PropertyModel,
    model: PropertyModel,
    data: Batches,
    fit: Fit,
    levels: list[int] | None,
    parts: SetModel,
    fresh: dict[str, Scaler | ClassScaler],
) -> PropertyModel:
    """Return ``model`` with a set model on the site features of its encoder, which are computed once."""
    if levels is None:
        raise ConfigError("mode.level=trunk has no sites for a set model; use a level of the encoder, such as 1.")
    readout: dict[str, Any] = {"levels": levels, "widths": list(parts.widths), "pools": list(parts.pools)}
    readout |= {"query": parts.query, "steps": parts.steps}
    trunk: dict[str, Any] = {"widths": list(parts.rho), "dropout": parts.dropout}
    pool = AtomSet(*encoder_facts(model.encoder), **readout).to(data.labels.device)
    model.readout = pool
    model.trunk = Layers(pool.dim, **trunk).to(data.labels.device)
    model.spec["readout"] = {"_target_": "tltool.model.readouts.atom_set.AtomSet", **readout}
    model.spec["trunk"] = {"_target_": "tltool.model.readouts.atom_set.Layers", **trunk}
    edit.linear_heads(model)
    edit.new_heads(model, fresh)
    edit.freeze(model, ["encoder", "readout.scale"])

    table = embeddings.sites(model, data, levels)
    light = replace(data, table=data.table.without_edges())
    graph = light.graph("train")
    # Each crystal counts once, however large its cell.
    counts, of_rows = graph.multiplicity / graph.n_sites()[graph.crystal], _of_rows(data)
    counts = counts if of_rows is None else counts * of_rows[graph.crystal]
    pool.scale.fit(table[light.table.nodes(data.split["train"])], counts)

    def values(model: PropertyModel, batch: Batch) -> Tensor:
        rows = table[light.table.nodes(batch.rows)]
        return model.values(model.readout.of_sites(rows, batch.graph))  # type: ignore[operator]

    announce(source, model, light, fit, values)
    train(model, light, fit, values=values)
    return model


@torch.no_grad()
def _hidden(model: PropertyModel, table: Tensor) -> Tensor:
    return model.trunk(table)  # type: ignore[no-any-return]
