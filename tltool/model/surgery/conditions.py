"""Let a model read the conditions of a measurement, such as its temperature, besides the crystal."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from tltool.model.layers.mlp import Conditioned
from tltool.model.property_model import PropertyModel
from tltool.model.readouts.pool import encoder_facts
from tltool.model.readouts.with_conditions import WithConditions

KEY = "conditions"
"""Where the spec of a model has its conditions, {name: unit}, in their order."""
_WIDTH = 64
_SHARE = 8  # the features of the crystal, of so many of which the conditions weigh as much as one
Made = tuple[nn.Module, dict[str, Any]]


def give(model: PropertyModel, conditions: Mapping[str, str], rows: Tensor) -> None:
    """Let ``model`` read ``conditions`` {name: unit}, standardised by those of training ``rows`` (r, k).

    They join the embedding, and a layer beside the trunk reads both (``Conditioned``). At first it predicts as before.
    """
    device = next(model.encoder.parameters()).device
    readout, node = beside(model, (model.readout, model.spec["readout"]), list(conditions), rows, times=1)
    trunk = {"trunk": _same(model.trunk)}
    keys: dict[str, Any] = {"conditions": len(conditions), "width": _WIDTH}
    model.trunk = Conditioned(int(readout.dim), **keys, parts=trunk).to(device)  # type: ignore[arg-type]
    model.spec["trunk"] = {
        "_target_": f"{Conditioned.__module__}.{Conditioned.__name__}",
        **keys,
        "parts": {"trunk": model.spec["trunk"]},
    }
    model.readout, model.spec["readout"] = readout, node
    model.spec[KEY] = dict(conditions)


def beside(model: PropertyModel, first: Made, names: list[str], rows: Tensor | None, times: int | None = None) -> Made:
    """Return the readout ``first`` with the conditions ``names`` after it, and the YAML node.

    They are standardised by those of ``rows`` (r, k), or as the readout of ``model`` does it.
    """
    device = next(model.encoder.parameters()).device
    count = max(1, int(first[0].dim) // (_SHARE * len(names))) if times is None else times  # type: ignore[arg-type]
    keys: dict[str, Any] = {"names": names, "times": count}
    readout = WithConditions(*encoder_facts(model.encoder), **keys, parts={"first": _same(first[0])}).to(device)
    if rows is not None:
        readout.fit(rows.to(device))
    elif isinstance(model.readout, WithConditions):
        readout.mean.copy_(model.readout.mean)
        readout.spread.copy_(model.readout.spread)
    at = f"{WithConditions.__module__}.{WithConditions.__name__}"
    return readout, {"_target_": at, **keys, "parts": {"first": first[1]}}


def _same(module: nn.Module) -> Callable[..., nn.Module]:
    def made(*given: Any) -> nn.Module:
        return module

    return made
