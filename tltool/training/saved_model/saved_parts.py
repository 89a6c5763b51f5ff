"""Convert the description of a model's parts between memory (calls) and disk (data only, never a call).

In memory a part is a YAML node with ``_target_``. On disk it is ``part: CGCNN`` and the numbers and words it is made
with. The name is looked up among the parts that its place takes (``instantiate.PLACES``), so that a file says which
known part, not which function to call, and modules may move. A part of a user's own package keeps its dotted name, and
loads only where the user names the package in ``plugins``. ``upgrades`` turns earlier forms into this one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tltool import instantiate
from tltool.errors import ConfigError
from tltool.quantities import described, table_of

_PARTS = "parts"  # of the readouts that put features side by side: parts of the source, and of further sources
_FIRST = "first"  # of those parts: another readout
_DEEPEST = 8
_MOST_QUANTITIES = 1_000


def on_disk(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``spec`` with its parts in the form of the file."""
    return {key: _written(key, value) if key in instantiate.MODEL else value for key, value in spec.items()}


def in_memory(spec: Mapping[str, Any], plugins: Iterable[str] = ()) -> dict[str, Any]:
    """Return the ``spec`` of a file, in today's form, with its parts as nodes that ``instantiate`` calls.

    Raises ConfigError for a part that its place does not know, for a call anywhere else in the file, and for a wrong
    definition of a quantity.
    """
    names = tuple(name.rstrip(".") + "." for name in plugins)
    found = {key: _read(key, value, names) if key in instantiate.MODEL else value for key, value in spec.items()}
    for key, value in found.items():
        if key not in instantiate.MODEL:
            _plain(key, value)
    return found | {"quantities": _definitions(found["quantities"])}


def _definitions(found: Any) -> dict[str, Any]:
    """Return the definitions of a model's quantities, with types and lengths checked."""
    if not isinstance(found, Mapping) or len(found) > _MOST_QUANTITIES:
        raise ConfigError(f"quantities must define at most {_MOST_QUANTITIES} quantities, each by its name.")
    known = table_of(found, "quantities")
    return {name: described(known[name]) for name in found}


def _written(place: str, node: Mapping[str, Any]) -> dict[str, Any]:
    name = str(node["_target_"])
    short = name.rpartition(".")[2]
    rest = {key: value for key, value in node.items() if key != "_target_"}
    if _PARTS in rest:
        rest[_PARTS] = {key: _written(_place(key), part) for key, part in rest[_PARTS].items()}
    return {"part": short if instantiate.named(place, short) == name else name, **rest}


def _place(key: str) -> str:
    """Return the place whose parts the ``key`` of a part takes."""
    return "readout" if key == _FIRST else key


def _read(place: str, node: Any, plugins: tuple[str, ...], depth: int = 0) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ConfigError(f"The parts of the model are nested more than {_DEEPEST} levels deep.")
    if not isinstance(node, Mapping):
        raise ConfigError(f"{place} must be a table with a part and its arguments.")
    rest = {str(key): value for key, value in node.items()}
    given, parts = rest.pop("part", None), rest.pop(_PARTS, None)
    if not isinstance(given, str) or "_target_" in rest:
        raise ConfigError(
            f"{place} names no part, so it may not be used; a model has part: NAME and no call (_target_)."
        )
    if given.startswith(plugins or ("\0",)):
        target = given
    else:
        home, _, short = given.rpartition(".")
        known = instantiate.named(place, short) if not home or home.startswith("tltool.model.") else None
        if known is None:
            raise ConfigError(
                f"{place}={given!r} is not known and may not be used; if you trust its package, name the package in "
                "plugins=[...]."
            )
        target = known
    for key, value in rest.items():
        _plain(f"{place}.{key}", value)
    if parts is None:
        return {"_target_": target, **rest}
    known_parts = (*instantiate.MODEL, _FIRST)
    if not isinstance(parts, Mapping) or not set(parts) <= set(known_parts):
        raise ConfigError(f"{place}.{_PARTS} may contain only {', '.join(known_parts)}.")
    own = {str(key): _read(_place(str(key)), part, plugins, depth + 1) for key, part in parts.items()}
    return {"_target_": target, **rest, _PARTS: own}


def _plain(where: str, value: Any) -> None:
    """Raise ConfigError if ``value`` contains a call."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            raise ConfigError(
                f"{where} contains a call (_target_={value['_target_']!r}), which is not allowed in a model."
            )
        for key, inner in value.items():
            _plain(f"{where}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _plain(where, inner)
