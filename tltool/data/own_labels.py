"""Settle what a description of a user's own data leaves open: which columns are labels, and how each is defined.

An adapter may have a function ``settle`` in its module that looks into the table. Afterwards the description names
everything, so that reading, training and the config in the run folder follow what is written there. torch is not
imported, so that a mistake ends before that.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tltool import config_tree, instantiate
from tltool.data.formats.label_choice import Chosen, Wish
from tltool.errors import ConfigError, DataError, standing_at
from tltool.quantities import Quantities, Quantity, described, read_folder, shipped, table_of


class Settled(NamedTuple):
    """What ``settle`` of an adapter finds: keys of its YAML, the labels, and in words how it reads the table."""

    keys: Mapping[str, Any]
    chosen: Chosen
    told: list[str]


Settle = Callable[[Path, Mapping[str, Any], Wish, Quantities], Settled]


def settled(config: Mapping[str, Any], own: Mapping[str, Quantity], say: Callable[[str], None]) -> dict[str, Any]:
    """Return the ``config`` of a stage with every description of data settled.

    ``own`` are the quantities of YAML files that the user wrote; ``say`` is told what was assumed. Raise DataError and
    ConfigError, naming the file or key, where the table does not fit the description.
    """
    found: dict[str, Any] = _copy(config)
    known = shipped().joined(own.values())
    plugins = tuple(found.get("plugins") or ())
    for place, node in list(config_tree.data_nodes(found)):
        with standing_at(place, "data"):
            if isinstance(node, dict):
                _settle(node, known, own, plugins, partial(_say_of, say, place))
    for holder in _holders(found):
        data = holder.get("data")
        if isinstance(data, Mapping) and "quantities" in holder and holder["quantities"] is None:
            holder["quantities"] = list(data.get("quantities") or ())
    return found


def _say_of(say: Callable[[str], None], place: str, text: str) -> None:
    """Say ``text`` with the keys of a description named by its ``place`` in the config, as errors are."""
    say(re.sub(r"(?<![\w./@-])data\.(?=(?:quantities|define)=)", f"{place}.", text))


def of_folders(folders: Iterable[Path]) -> dict[str, Quantity]:
    """Return the quantities of the YAML files in the folder ``quantity`` of each, of one name the first."""
    found: dict[str, Quantity] = {}
    for folder in folders:
        if (folder / "quantity").is_dir():
            found = read_folder(folder / "quantity") | found
    return found


def _holders(config: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield the nodes that hold a data set and the quantities to learn of it."""
    overlap = config.get("overlap")
    for node in (config, config.get("target"), overlap.get("target") if isinstance(overlap, dict) else None):
        if isinstance(node, dict):
            yield node


def _settle(
    node: dict[str, Any],
    known: Quantities,
    own: Mapping[str, Quantity],
    plugins: tuple[str, ...],
    say: Callable[[str], None],
) -> None:
    """Fill in what the description ``node`` leaves open."""
    define = node.get("define")
    if define is not None and not isinstance(define, Mapping):
        raise ConfigError(f"data.define={define!r} must define quantities, as {{kappa: {{unit: 'W/(m K)'}}}}.")
    adapter = node.get("adapter")
    if not isinstance(adapter, dict) or "_target_" not in adapter:
        return
    module = sys.modules[instantiate.locate(adapter["_target_"], plugins, "adapter").__module__]
    settle: Settle | None = getattr(module, "settle", None)
    root = Path(str(node.get("root") or "")).expanduser()
    if settle is None or not node.get("root"):
        ours = {name: own[name] for name in node.get("quantities") or () if name in own}
        _define(node, {name: described(q) for name, q in ours.items()} | _with_units(define or {}))
        return
    if not root.exists():
        raise DataError(f"data.root={root} does not exist; name the folder or file that holds the data set.")
    names = adapter.get("labels")
    found = settle(root, adapter, Wish(names, adapter.get("columns"), define or {}), known)
    adapter |= {**found.keys, "labels": found.chosen.names, "columns": found.chosen.columns}
    if node.get("quantities") is None:
        node["quantities"] = list(found.chosen.names)
    ships = shipped()
    _define(
        node,
        {k: v for k, v in found.chosen.definitions.items() if k not in ships or v != described(ships[k])},
        takes=True,
    )
    for line in filter(None, found.told):
        say(line)


def _define(node: dict[str, Any], definitions: Mapping[str, Any], *, takes: bool = False) -> None:
    """Write definitions into the description, and into the keys of its adapter if that takes them."""
    table = table_of(definitions)
    every = {name: described(table[name]) for name in definitions}
    if every or node.get("define"):
        node["define"] = every
    if "define" in node["adapter"] or takes:
        node["adapter"]["define"] = every


def _with_units(define: Mapping[str, Any]) -> dict[str, Any]:
    """Return definitions with the unit of a quantity that ships where they leave it out."""
    ships = shipped()
    return {
        name: {"unit": ships[name].unit, **one} if isinstance(one, Mapping) and name in ships else one
        for name, one in define.items()
    }


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(part) for key, part in value.items()}
    return [_copy(part) for part in value] if isinstance(value, (list, tuple)) else value
