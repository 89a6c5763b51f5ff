"""From a YAML node with ``_target_`` to the Python thing it names, and nothing else.

Only things that tltool, torch.optim and scikit-learn's estimators define can be named, plus the prefixes the user
lists in ``plugins``; what a name leads to must be defined inside the allowed package too, so that a module's own
imports cannot be reached through it. A config read from a checkpoint is held to the same rule.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from tltool.errors import ConfigError, nearest

ALLOWED = ("tltool.", "torch.optim.", "sklearn.")

TRAINING = "/training"
"""In what ``idle_keys`` of a mode returns: nothing is trained by steps, so that ``fit`` and ``optimiser`` are idle."""


class Idle(NamedTuple):
    """Why nothing reads a key in a run, and what to do ``instead``.

    ``{at}`` stands for the dotted name of the function's node in both, ``{value}`` for what was given.
    """

    why: str
    instead: str = "leave it out"

    def at(self, place: str) -> "Idle":
        """Return the same with ``place`` for ``{at}``."""
        return Idle(self.why.replace("{at}", place), self.instead.replace("{at}", place))


def locate(target: str, plugins: Iterable[str] = ()) -> Callable[..., Any]:
    """Return the function or class called ``target``; raise ConfigError if it is not allowed or not there."""
    allowed = (*ALLOWED, *(p.rstrip(".") + "." for p in plugins))
    if not isinstance(target, str) or not target.startswith(allowed):
        raise ConfigError(
            f"_target_={target!r} may not be used: it must start with {', '.join(allowed)}; "
            "list another package in plugins=[...] if you trust it."
        )
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"_target_={target!r} does not exist ({error}).") from error
    home = getattr(found, "__module__", "") or ""
    if not callable(found) or not f"{home}.".startswith(allowed):
        raise ConfigError(f"_target_={target!r} may not be used: it is defined in {home or 'no module'}.")
    if target.startswith("sklearn.") and not hasattr(found, "get_params"):
        raise ConfigError(f"_target_={target!r} may not be used: of scikit-learn only estimators and kernels are.")
    return found  # type: ignore[no-any-return]


def call(node: Mapping[str, Any], /, *given: Any, plugins: Iterable[str] = ()) -> Any:
    """Call what ``node['_target_']`` names with ``given`` by position and the other keys by name; see ``bound``."""
    return bound(node, plugins)(*given)


def bound(node: Mapping[str, Any], plugins: Iterable[str] = ()) -> Callable[..., Any]:
    """Return what ``node['_target_']`` names with the other keys filled in by name, to be called by position.

    Nested nodes with a ``_target_`` are called; those in a ``dict[str, Callable[...]]`` are bound like this one, for
    the function to call them itself. Raises ConfigError for a missing target, and for a key that the function does not
    take, with the nearest one it does.
    """
    if "_target_" not in node:
        raise ConfigError(f"A plug needs _target_; these keys have none: {', '.join(map(str, node)) or '(empty)'}.")
    target = locate(node["_target_"], plugins)
    hints = _hints(node["_target_"], target)
    keys = {
        str(k): {str(name): bound(part, plugins) for name, part in v.items()}
        if _takes_plugs(hints.get(k)) and isinstance(v, Mapping)
        else _built(v, plugins)
        for k, v in node.items()
        if k != "_target_"
    }
    known = inspect.signature(target).parameters.values()
    if all(p.kind is not p.VAR_KEYWORD for p in known):
        names = {p.name for p in known if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        for key in keys:
            if key not in names:
                raise ConfigError(f"{node['_target_']} takes no {key!r}.{nearest(key, names)}")
        missing = {p.name for p in known if p.kind is p.KEYWORD_ONLY and p.default is p.empty} - keys.keys()
        if missing:
            raise ConfigError(f"{node['_target_']} needs {', '.join(sorted(missing))}; add it to the YAML.")
    _check_types(node["_target_"], hints, keys)
    return partial(target, **keys)


def idle_keys(node: Mapping[str, Any], config: Mapping[str, Any], /, plugins: Iterable[str] = ()) -> dict[str, Idle]:
    """Return which keys of ``node`` have no effect beside its others and those of the whole ``config``.

    The module of its ``_target_`` knows: it may have a function ``idle_keys(node, config, /)`` that returns this.
    """
    module = sys.modules[locate(node["_target_"], plugins).__module__]
    told = getattr(module, "idle_keys", None)
    return dict(told(node, config)) if told else {}


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}


def _hints(name: str, target: Callable[..., Any]) -> dict[str, Any]:
    """Return the types that a thing of tltool says it takes; nothing of others."""
    if not name.startswith("tltool."):
        return {}
    return get_type_hints(target.__init__ if inspect.isclass(target) else target)


def _takes_plugs(hint: Any) -> bool:
    return get_origin(hint) is dict and get_origin(get_args(hint)[1]) is Callable


def _check_types(name: str, hints: Mapping[str, Any], keys: Mapping[str, Any]) -> None:
    """Raise ConfigError for a plain value of another kind than tltool's own function says it takes."""
    for key, value in keys.items():
        hint = hints.get(key)
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        fits = type(value) in kinds or (float in kinds and type(value) is int)
        if not fits and all(kind in _WORDS for kind in kinds):
            wanted = " or ".join(_WORDS[kind] for kind in kinds)
            raise ConfigError(f"{name}: {key}={value!r} must be {wanted}.")


def _built(value: Any, plugins: Iterable[str]) -> Any:
    if isinstance(value, Mapping):
        return (
            call(value, plugins=plugins) if "_target_" in value else {k: _built(v, plugins) for k, v in value.items()}
        )
    if isinstance(value, (list, tuple)):
        return [_built(v, plugins) for v in value]
    return value
