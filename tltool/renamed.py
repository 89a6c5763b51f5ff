"""Names of the past: what a ``_target_`` in a YAML was called before, and the version in which each name ended."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """The new name, and the ``version`` of tltool in which the old one ended."""

    name: str
    version: str


RENAMED = {
    "tltool.data.folds": Renamed("tltool.data.matbench_folds", "0.1.0"),
    "tltool.data.materials_project.fetch": Renamed("tltool.data.materials_project.fetch.fetch", "0.1.0"),
    "tltool.model.atom_set": Renamed("tltool.model.readouts.atom_set", "0.1.0"),
    "tltool.model.attention_pool": Renamed("tltool.model.readouts.attention_pool", "0.1.0"),
    "tltool.model.beside": Renamed("tltool.model.readouts.concatenated", "0.1.0"),
    "tltool.model.estimator": Renamed("tltool.model.sklearn_head", "0.1.0"),
    "tltool.model.mlp": Renamed("tltool.model.layers.mlp", "0.1.0"),
    "tltool.model.readout": Renamed("tltool.model.readouts.pool", "0.1.0"),
    "tltool.model.set2set": Renamed("tltool.model.readouts.set2set", "0.1.0"),
    "tltool.training.adamw": Renamed("torch.optim", "0.1.0"),
}
"""Old name -> new name: of a function, or of the module that holds it."""


def renamed(target: str) -> Renamed | None:
    """Return what ``target`` is called now; None if its name has not changed."""
    if target in RENAMED:
        return RENAMED[target]
    module, _, name = target.rpartition(".")
    found = RENAMED.get(module)
    # The old name of a function may be the new one of a module.
    if found is None or found.name.startswith(f"{module}."):
        return None
    return Renamed(f"{found.name}.{name}", found.version)


def brought_up(node: Any) -> Any:
    """Return ``node``, a config or a part of one, with every ``_target_`` by its name of today."""
    if isinstance(node, Mapping):
        return {key: _named(value) if key == "_target_" else brought_up(value) for key, value in node.items()}
    return [brought_up(value) for value in node] if isinstance(node, list) else node


def _named(target: Any) -> Any:
    found = renamed(target) if isinstance(target, str) else None
    return target if found is None else found.name
