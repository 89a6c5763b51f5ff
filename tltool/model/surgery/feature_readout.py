"""Give a model the readout that ``mode=features`` asks for: levels, descriptors, other sources and potentials."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from tltool.errors import InapplicableError, standing_at
from tltool.model.encoders.no_network import NoNetwork
from tltool.model.property_model import PropertyModel
from tltool.model.readouts.concatenated import OF_NETWORK, Concatenated
from tltool.model.readouts.joined_sources import JoinedSources
from tltool.model.readouts.pool import Pool, checked_levels, encoder_facts, pool_of_sites
from tltool.model.readouts.potential_features import PHYSICS, PotentialFeatures
from tltool.model.readouts.with_conditions import WithConditions
from tltool.model.scaler import ClassScaler
from tltool.model.sklearn_head import FixedHead, Standardise
from tltool.model.surgery import conditions, edit

Made = tuple[nn.Module, dict[str, Any]]
"""A readout, and its YAML node."""


def give_features(model: PropertyModel, levels: list[int], statistics: list[str], extra: list[str], bare: bool) -> None:
    """Give ``model`` a readout of ``statistics`` of ``levels`` and ``extra`` features, as in ``Concatenated``.

    Those of ``more_sources`` follow, see ``JoinedSources``, and those of potentials, see ``PotentialFeatures``. The
    trunk only standardises; it is fitted later. ``bare`` data are formulas. They have no edges, so the features of
    edges are left out. Raise ConfigError for an unknown extra feature or level, and InapplicableError for ``labels`` if
    a head of the source is an estimator and for the words of ``PHYSICS`` without a potential.
    """
    device = next(model.encoder.parameters()).device
    physics = [word for word in extra if word in PHYSICS]
    if physics and not model.potentials:
        raise InapplicableError(
            f"mode.extra_features: {physics[0]} is what a potential predicts, and no source is one; name one, as in "
            "source=[bundled,chgnet]."
        )
    every, extra = extra, [word for word in extra if word not in PHYSICS]
    of_network = [word for word in extra if word in OF_NETWORK]
    if isinstance(model.encoder, NoNetwork):
        without = [word for word in extra if word not in OF_NETWORK]
        found = _readout(model, [], statistics, without, bare) if without else None
    else:
        found = _readout(model, levels, statistics, extra, bare)
    for name, other in model.more_sources.items() if levels or of_network else ():
        if found is not None:
            found = _joined(model, found, name, other, _readout(other, levels, statistics, of_network, bare))
    for name, blocks in model.potentials.items():
        with standing_at("mode", "readout"):
            chosen = _of_potential(blocks, levels, statistics, every)
        found = _with_potential(model, found, name, chosen) if chosen else found
    if found is None:
        raise InapplicableError(
            "A frozen potential has levels and labels only; name some, as in mode.level=[1] or "
            "mode.extra_features=[labels]."
        )
    if isinstance(model.readout, WithConditions):
        found = conditions.beside(model, found, list(model.readout.names), None)
    readout, node = found
    model.readout = readout.to(device)
    model.more_sources, model.potentials = {}, {}
    model.trunk = Standardise(int(readout.dim)).to(device)  # type: ignore[arg-type]
    model.spec["readout"], model.spec["trunk"] = node, {"_target_": "tltool.model.sklearn_head.Standardise"}
    edit.linear_heads(model)


def fill_missing(model: PropertyModel, potential: Tensor | None, rows: Tensor) -> None:
    """Let crystals that a potential cannot do have the mean of the training ``rows`` of ``potential`` (n, w)."""
    for module in model.readout.modules():
        if isinstance(module, PotentialFeatures) and potential is not None:
            module.fit(potential[rows])


def _joined(model: PropertyModel, first: Made, name: str, other: PropertyModel, further: Made) -> Made:
    """Return the readout ``first`` joined with the ``further`` one of the source ``other``, and the YAML node."""
    own: dict[str, Callable[..., nn.Module]] = {
        "first": partial(_same, first[0]),
        "encoder": partial(_same, other.encoder),
        "readout": partial(_same, further[0]),
    }
    nodes = {"first": first[1], "encoder": other.spec["encoder"], "readout": further[1]}
    joined = JoinedSources(*encoder_facts(model.encoder), name=name, parts=own)
    at = "tltool.model.readouts.joined_sources.JoinedSources"
    return joined, {"_target_": at, "name": name, "parts": nodes}


def _with_potential(model: PropertyModel, first: Made | None, name: str, blocks: dict[str, list[int]]) -> Made:
    """Return the readout ``first``, if any, with ``blocks`` of the potential ``name`` after it, and the YAML node."""
    parts: dict[str, Callable[..., nn.Module]] = {"first": partial(_same, first[0])} if first else {}
    readout = PotentialFeatures(*encoder_facts(model.encoder), name=name, blocks=blocks, parts=parts)
    at = "tltool.model.readouts.potential_features.PotentialFeatures"
    nodes = {"first": first[1]} if first else {}
    return readout, {"_target_": at, "name": name, "blocks": blocks, "parts": nodes}


def _of_potential(
    blocks: Mapping[str, Sequence[int]], levels: list[int], statistics: list[str], extra: list[str]
) -> dict[str, list[int]]:
    """Return where the wanted ``blocks`` of a potential begin and end, by block."""
    n_levels = sum(block.startswith("level_") for block in blocks)
    found: dict[str, list[int]] = {}
    for level in checked_levels(levels, n_levels) if levels else ():
        block = f"level_{level % n_levels}"
        begin, end = blocks[block]
        middle = (begin + end) // 2
        found[block] = [begin if "mean" in statistics else middle, end if "std" in statistics else middle]
    return found | {word: list(blocks[word]) for word in extra if word in blocks}


def _same(module: nn.Module, *given: Any) -> nn.Module:
    return module


def _readout(
    model: PropertyModel, levels: list[int], statistics: list[str], extra: list[str], bare: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the readout that ``give_features`` describes for ``model`` alone, and its YAML node."""
    given = encoder_facts(model.encoder)
    node: dict[str, Any] = {"levels": levels, "statistics": statistics}
    if not extra:
        pool = pool_of_sites if bare else Pool
        with standing_at("mode", "readout"):
            made = pool(*given, levels=levels, statistics=statistics)
        return made, {"_target_": f"tltool.model.readouts.pool.{pool.__name__}", **node}
    logs = list(model.spec.get("logarithmic", ()))
    settings: dict[str, Any] = {
        "extra_features": extra,
        "quantities": model.quantities,
        "logarithmic": logs,
        "sites_only": bare,
    }
    if "labels" in extra and any(isinstance(scaler, ClassScaler) for scaler in model.scalers.values()):
        raise InapplicableError(
            "mode.extra_features: labels needs a source that predicts numbers, but this source predicts classes; use "
            "trunk."
        )
    if "labels" in extra and any(isinstance(head, FixedHead) for head in model.heads.values()):
        raise InapplicableError(
            "mode.extra_features: labels needs a source whose heads are networks, but this source has an estimator."
        )
    if "labels" in extra and any(getattr(scaler, "bounds", None) for scaler in model.scalers.values()):
        raise InapplicableError(
            "mode.extra_features: labels needs a source that learnt numbers or logarithms, but this source learnt the "
            "logit of one; use trunk."
        )
    own: dict[str, Callable[..., nn.Module]] = {"head": model.fresh_head}
    own |= {"readout": partial(_same, model.readout), "trunk": partial(_same, model.trunk)}
    with standing_at("mode", "readout"):
        readout = Concatenated(*given, levels=levels, statistics=statistics, **settings, parts=own)
    if "labels" in extra:
        readout.heads.load_state_dict(model.heads.state_dict())
        readout.scalers.load_state_dict(model.scalers.state_dict())
    nodes = {name: model.spec[name] for name in ("readout", "trunk", "head") if name in model.spec}
    return readout, {
        "_target_": "tltool.model.readouts.concatenated.Concatenated",
        **node,
        **settings,
        "parts": nodes,
    }
