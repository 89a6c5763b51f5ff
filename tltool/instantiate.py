"""From a YAML node with ``_target_`` to the Python thing it names, and nothing else.

What may be named depends on the place: an encoder's place takes encoders, a regressor's place scikit-learn's
estimators (``PLACES``). A package's name alone is no permission, since a package holds functions that run things.
What a name leads to must be defined inside the allowed module too, so that a module's own imports cannot be reached
through it. The packages that the user lists in ``plugins`` are allowed everywhere. A model's description on disk is
held to the same rules (``training/saved_model/saved_parts.py``).
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import ModuleType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from tltool.errors import ConfigError, nearest
from tltool.renamed import renamed, renamed_key

PLACES = {
    "adapter": ("tltool.data.adapters.",),
    "fetch": ("tltool.data.materials_project.fetch.fetch",),
    "split": (
        "tltool.data.splits.",
        "tltool.data.matbench_folds.",
        "tltool.data.split_folds.",
        "tltool.data.held_out.leave_out.leave_out",
    ),
    "encoder": ("tltool.model.encoders.",),
    "readout": ("tltool.model.readouts.",),
    "trunk": ("tltool.model.layers.mlp.", "tltool.model.readouts.atom_set.", "tltool.model.sklearn_head."),
    "head": ("tltool.model.heads.", "tltool.model.layers.mlp."),
    "fit": ("tltool.training.fit.Settings", "tltool.training.settings.Settings"),
    "optimiser": ("torch.optim.",),
    "mode": ("tltool.transfer.",),
    "logger": ("tltool.loggers.",),
    "potential": ("tltool.potentials.",),
    "regressor": ("sklearn.", "tltool.model.readouts.atom_set.SetModel", "tltool.model.additive_gp.AdditiveGP"),
}
"""What may be named where: a name as a whole, or what it begins with if that ends in a dot."""

MODEL = ("encoder", "readout", "trunk", "head")
"""The places of the parts of a model, each of which takes a ``torch.nn.Module`` or a function that returns one."""

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


def locate(target: str, plugins: Iterable[str] = (), place: str | None = None) -> Callable[..., Any]:
    """Return the function or class called ``target``.

    Raises ConfigError if ``place`` does not take it, or without one no place does, and if it is not there.
    """
    own = tuple(p.rstrip(".") + "." for p in plugins)
    allowed = PLACES[place] if place else tuple(name for names in PLACES.values() for name in names)
    where = f"{place}._target_" if place else "_target_"
    if isinstance(target, str) and (now := renamed(target)) is not None:
        raise ConfigError(now.sentence(f"{where}={target!r}"))
    if not isinstance(target, str) or not _is_among(target, (*allowed, *own)):
        raise ConfigError(
            f"{where}={target!r} may not be used: it must be or start with {', '.join((*allowed, *own))}; "
            "list another package in plugins=[...] if you trust it."
        )
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"_target_={target!r} does not exist ({error}).") from error
    home = getattr(found, "__module__", "") or ""
    if not callable(found) or not _is_among(f"{home}.{getattr(found, '__name__', '')}", (*allowed, *own)):
        raise ConfigError(f"_target_={target!r} may not be used: it is defined in {home or 'no module'}.")
    if target.startswith("sklearn.") and not hasattr(found, "get_params"):
        raise ConfigError(f"_target_={target!r} may not be used: of scikit-learn only estimators and kernels are.")
    if place in MODEL and not _makes_module(found):
        raise ConfigError(f"{place}._target_={target!r} may not be used: it is no part of a network.")
    return found  # type: ignore[no-any-return]


def named(place: str, name: str) -> str | None:
    """Return the dotted name of the part of a model called ``name`` that ``place`` takes; None if there is none."""
    for prefix in PLACES[place]:
        for module in _modules(prefix.rstrip(".")):
            found = getattr(module, name, None)
            if getattr(found, "__module__", None) == module.__name__ and _makes_module(found):
                return f"{module.__name__}.{name}"
    return None


def _modules(name: str) -> Iterator[ModuleType]:
    """Yield the module called ``name``, and of a package the modules in it."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        return
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        yield importlib.import_module(f"{name}.{found.name}")


def _is_among(name: str, allowed: Iterable[str]) -> bool:
    return any(_is_of(name, given) for given in allowed)


def _is_of(name: str, given: str) -> bool:
    if not given.endswith("."):
        return name == given
    # Of tltool's own folders the modules in them, without those of a folder within.
    return name.startswith(given) and (not given.startswith("tltool.") or name.removeprefix(given).count(".") < 2)


def _makes_module(found: Any) -> bool:
    """Say whether ``found`` is a class of torch's modules, or a function that says it returns one."""
    from torch import nn

    kind = found if inspect.isclass(found) else get_type_hints(found).get("return") if callable(found) else None
    return inspect.isclass(kind) and issubclass(kind, nn.Module)


def call(node: Mapping[str, Any], /, *given: Any, plugins: Iterable[str] = (), place: str | None = None) -> Any:
    """Call what ``node['_target_']`` names with ``given`` by position and the other keys by name; see ``bound``."""
    return bound(node, plugins, place)(*given)


def bound(node: Mapping[str, Any], plugins: Iterable[str] = (), place: str | None = None) -> Callable[..., Any]:
    """Return what ``node['_target_']`` names with the other keys filled in by name, to be called by position.

    ``place`` is a key of ``PLACES``: where the node stands. Nested nodes with a ``_target_`` are called; those in a
    ``dict[str, Callable[...]]`` are bound like this one, for the function to call them itself. Each is held to the
    place that its key names, or else to that of the node around it. Raises ConfigError for a missing target, one that
    the place does not take, and for a key that the function does not take, with the nearest one it does.
    """
    if "_target_" not in node:
        raise ConfigError(f"A plug needs _target_; these keys have none: {', '.join(map(str, node)) or '(empty)'}.")
    target = locate(node["_target_"], plugins, place)
    hints = _hints(node["_target_"], target)
    keys = {
        str(k): {str(name): bound(part, plugins, _place(str(name), place)) for name, part in v.items()}
        if _takes_plugs(hints.get(k)) and isinstance(v, Mapping)
        else _built(v, plugins, _place(str(k), place))
        for k, v in node.items()
        if k != "_target_"
    }
    known = inspect.signature(target).parameters.values()
    if all(p.kind is not p.VAR_KEYWORD for p in known):
        names = {p.name for p in known if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
        for key in keys:
            if key not in names:
                now = renamed_key(str(key))
                advice = f" {now.sentence(str(key))}" if now else nearest(key, names)
                raise ConfigError(f"{node['_target_']} takes no {key!r}.{advice}")
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


def _place(key: str, around: str | None) -> str | None:
    """Return the place of a node below ``key`` of a node that stands ``around`` it."""
    return key if key in PLACES and around is not None else around


def _built(value: Any, plugins: Iterable[str], place: str | None) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return call(value, plugins=plugins, place=place)
        return {k: _built(v, plugins, place) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_built(v, plugins, place) for v in value]
    return value
