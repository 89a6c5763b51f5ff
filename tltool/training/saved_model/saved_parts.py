"""The parts of a model as they are described on disk: data, never a call.

In memory a part is a YAML node with ``_target_``. On disk it is ``part: CGCNN`` and the numbers and words it is made
with. The name is looked up among the parts that its place takes (``instantiate.PLACES``), so that a file says which
known part, not which function to call, and modules may move. A part of a user's own package keeps its dotted name, and
loads only where the user names the package in ``plugins``.

Schema 1 (until 0.1.0 of 2026-11-21) had ``_target_`` on disk. Such files are read through the same checks.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tltool import instantiate
from tltool.errors import ConfigError

SCHEMA = 2
_PARTS = "parts"  # of the readout that puts features side by side: the source's own readout, trunk and head
_DEEPEST = 8


def on_disk(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``spec`` with its parts as they are written."""
    return {key: _written(key, value) if key in instantiate.MODEL else value for key, value in spec.items()}


def in_memory(spec: Mapping[str, Any], plugins: Iterable[str] = ()) -> dict[str, Any]:
    """Return the ``spec`` of a file, of either schema, with its parts as nodes that ``plugs`` calls.

    Raises ConfigError for a part that its place does not know, and for a call anywhere else in the file.
    """
    names = tuple(name.rstrip(".") + "." for name in plugins)
    word = "_target_" if spec.get("schema") == 1 else "part"
    found = {key: _read(key, value, word, names) if key in instantiate.MODEL else value for key, value in spec.items()}
    for key, value in found.items():
        if key not in instantiate.MODEL:
            _plain(key, value)
    return found


def _written(place: str, node: Mapping[str, Any]) -> dict[str, Any]:
    name = str(node["_target_"])
    short = name.rpartition(".")[2]
    rest = {key: value for key, value in node.items() if key != "_target_"}
    if _PARTS in rest:
        rest[_PARTS] = {key: _written(key, part) for key, part in rest[_PARTS].items()}
    return {"part": short if instantiate.named(place, short) == name else name, **rest}


def _read(place: str, node: Any, word: str, plugins: tuple[str, ...], depth: int = 0) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ConfigError(f"The parts of the model stand more than {_DEEPEST} deep.")
    if not isinstance(node, Mapping):
        raise ConfigError(f"{place} must name a part and what it is made with.")
    given = node.get(word)
    rest = {str(key): value for key, value in node.items() if key != word}
    if not isinstance(given, str) or "_target_" in rest:
        raise ConfigError(f"{place} names no part; a model says part: NAME and may not be used with a call.")
    if given.startswith(plugins or ("\0",)):
        target = given
    else:
        home, _, short = given.rpartition(".")
        known = instantiate.named(place, short) if not home or home.startswith("tltool.model.") else None
        if known is None:
            raise ConfigError(
                f"{place}={given!r} is not known and may not be used; if it is of a package that you trust, "
                "name that in plugins=[...]."
            )
        target = known
    parts = rest.pop(_PARTS, None)
    for key, value in rest.items():
        _plain(f"{place}.{key}", value)
    if parts is None:
        return {"_target_": target, **rest}
    if not isinstance(parts, Mapping) or not set(parts) <= set(instantiate.MODEL):
        raise ConfigError(f"{place}.{_PARTS} must name {', '.join(instantiate.MODEL)} and nothing else.")
    own = {str(key): _read(str(key), part, word, plugins, depth + 1) for key, part in parts.items()}
    return {"_target_": target, **rest, _PARTS: own}


def _plain(where: str, value: Any) -> None:
    """Raise ConfigError if ``value`` holds a call."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise ConfigError(
                f"{where} holds a call (_target_={value['_target_']!r}), which may not be used in a model."
            )
        for key, inner in value.items():
            _plain(f"{where}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _plain(where, inner)
