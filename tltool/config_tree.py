"""Ways through a config, which is a tree of mappings: its keys by their dotted names, its functions, its data sets."""

from collections.abc import Iterator, Mapping
from typing import Any

Config = Mapping[str, Any]

_DATA = ("data", "base", "target.data", "target.base", "overlap.target.data", "overlap.target.base")


def leaves(tree: Any, place: str = "") -> dict[str, Any]:
    """Return the value of every key that holds no further ones, by its dotted name."""
    if not isinstance(tree, Mapping) or not tree:
        return {place: tree}
    return {k: v for key, part in tree.items() for k, v in leaves(part, f"{place}.{key}".lstrip(".")).items()}


def nodes(tree: Any, place: str = "") -> Iterator[tuple[str, Config]]:
    """Yield every node with a ``_target_`` and its dotted name."""
    if isinstance(tree, Mapping):
        if "_target_" in tree:
            yield place, tree
        for key, part in tree.items():
            yield from nodes(part, f"{place}.{key}".lstrip("."))


def data_nodes(config: Config) -> Iterator[tuple[str, Config]]:
    """Yield every description of a data set, the parts of one as well, and its dotted name."""
    for place in _DATA:
        node: Any = config
        for key in place.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        if isinstance(node, Mapping):
            yield place, node
            yield from ((f"{place}.parts.{name}", part) for name, part in (node.get("parts") or {}).items())


def place_of(description: Config, config: Config) -> str:
    """Return where in ``config`` the ``description`` of a data set stands; ``data`` where it does not."""
    return next((place for place, node in data_nodes(config) if node is description), "data")
