"""Old names and new ones: of functions (``_target_`` in a YAML), of keys, and of words that a key takes as its value.

Each has the version in which the old name ended. Command lines with an old name end with a sentence that gives the new
one. Saved models and metrics of earlier runs are read with the new names.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Renamed(NamedTuple):
    """The new name, and the ``version`` of tltool in which the old one ended."""

    name: str
    version: str

    def sentence(self, old: str) -> str:
        """Return a sentence that gives the new name of ``old``."""
        return f"{old} has been called {self.name} since tltool {self.version}; write that."


RENAMED = {
    "tltool.data.folds": Renamed("tltool.data.matbench_folds", "0.1.0"),
    "tltool.data.materials_project.fetch": Renamed("tltool.data.materials_project.fetch.fetch", "0.1.0"),
    "tltool.model.atom_set": Renamed("tltool.model.readouts.atom_set", "0.1.0"),
    "tltool.model.attention_pool": Renamed("tltool.model.readouts.attention_pool", "0.1.0"),
    "tltool.model.beside.Beside": Renamed("tltool.model.readouts.concatenated.Concatenated", "0.1.0"),
    "tltool.model.estimator": Renamed("tltool.model.sklearn_head", "0.1.0"),
    "tltool.model.mlp": Renamed("tltool.model.layers.mlp", "0.1.0"),
    "tltool.model.readout": Renamed("tltool.model.readouts.pool", "0.1.0"),
    "tltool.model.readouts.concatenated.Beside": Renamed("tltool.model.readouts.concatenated.Concatenated", "0.1.0"),
    "tltool.model.set2set": Renamed("tltool.model.readouts.set2set", "0.1.0"),
    "tltool.training.adamw": Renamed("torch.optim", "0.1.0"),
}
"""Old name -> new name: of a function, or of the module that holds it."""

KEYS = {
    "beside": Renamed("extra_features", "0.1.0"),
    "candidates.facts": Renamed("candidates.descriptors", "0.1.0"),
    "most_rows.facts": Renamed("most_rows.descriptors", "0.1.0"),
}
"""Old key -> new key, wherever it is in a config."""

WORDS = {"statistics": {"spread": Renamed("std", "0.1.0")}}
"""Key -> old word in its list -> new word."""


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


def renamed_key(key: str) -> Renamed | None:
    """Return what the dotted ``key`` is called now; None if its name has not changed."""
    for old, now in KEYS.items():
        if f".{old}." in f".{key}.":
            return Renamed(f".{key}.".replace(f".{old}.", f".{now.name}.").strip("."), now.version)
    return None


def renamed_part(name: str) -> str:
    """Return what the class ``name`` of a part of a model is called now."""
    now = {old.rpartition(".")[2]: found.name.rpartition(".")[2] for old, found in RENAMED.items()}
    return now[name] if name[:1].isupper() and name in now else name


def brought_up(node: Any, key: str = "") -> Any:
    """Return ``node``, a config or the part of one at ``key``, with the new name of every function, key and word."""
    if isinstance(node, Mapping):
        return {
            _key(f"{key}.{k}"): _named(v) if k == "_target_" else brought_up(v, f"{key}.{k}") for k, v in node.items()
        }
    if isinstance(node, list):
        words = WORDS.get(key.rpartition(".")[2], {})
        return [words[v].name if isinstance(v, str) and v in words else brought_up(v, key) for v in node]
    return node


def _key(key: str) -> str:
    found = renamed_key(key)
    return (key if found is None else found.name).rpartition(".")[2]


def _named(target: Any) -> Any:
    found = renamed(target) if isinstance(target, str) else None
    return target if found is None else found.name
