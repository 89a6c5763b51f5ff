"""What a study varies, read from its YAML: sources, targets, modes, sizes, draws and splits.

A description is checked here, so that a wrong word ends the command before anything is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tltool.errors import ConfigError, nearest

_KEYS = {
    "sources": ("source", "settings", "root", "sizes", "about"),
    "targets": ("target", "root", "settings", "sizes", "about"),
    "modes": ("mode", "once", "settings", "about"),
}


class Source(NamedTuple):
    """Where weights come from: a model that is there (``given``), or a pretraining of the study on ``rows`` crystals.

    ``family`` is the name in the YAML, which the sizes of one pretraining share. ``words`` are the overrides of the
    pretraining. ``rows`` is None for a model that is there, and for all rows of the data. ``about`` says what it is.
    """

    name: str
    family: str
    rows: int | None
    given: str
    words: tuple[str, ...]
    about: str = ""


class Target(NamedTuple):
    """A small data set: its name in the study, the overrides that choose it, the training sizes, and what it is."""

    name: str
    words: tuple[str, ...]
    sizes: tuple[int | None, ...]
    about: str = ""


class Mode(NamedTuple):
    """A way to transfer, its overrides, and what it is; ``once``: it takes nothing of a source, so one is enough."""

    name: str
    once: bool
    words: tuple[str, ...]
    about: str = ""


class Claim(NamedTuple):
    """What a work says: ``lower``, that the error of ``mode`` is lower than that of the baseline, or that it is higher.

    An empty source or target, and a size of None, stand for all of the study.
    """

    says: str
    mode: str
    source: str
    target: str
    size: int | None
    lower: bool


class Axes(NamedTuple):
    """A study: its name, what its page says first, and all that it varies.

    ``draws`` is {training size: number of draws} over the sizes of all targets; None stands for all rows.
    """

    name: str
    question: str
    works: tuple[str, ...]
    sources: tuple[Source, ...]
    targets: tuple[Target, ...]
    modes: tuple[Mode, ...]
    draws: Mapping[int | None, int]
    splits: Mapping[str, tuple[str, ...]]
    baseline: str
    settings: tuple[str, ...]
    claims: tuple[Claim, ...]


def read(node: Mapping[str, Any]) -> Axes:
    """Return the study that the ``node`` of a config describes; raise ConfigError, naming the key, if it is none."""
    node = {**node, **{key: _kept(node[key]) for key in ("sources", "targets", "modes", "splits")}}
    for key in ("sources", "targets", "modes", "splits"):
        if not node[key]:
            raise ConfigError(f"study.{key} has no entry; name some, as tltool study --help study shows.")
    for key, known in _KEYS.items():
        for name, entry in node[key].items():
            _refuse_unknown(f"study.{key}.{name}", entry, known)
    modes = tuple(_mode(str(name), entry) for name, entry in node["modes"].items())
    if node["baseline"] not in [mode.name for mode in modes]:
        raise ConfigError(
            f"study.baseline={node['baseline']} is none of study.modes.{nearest(str(node['baseline']), node['modes'])}"
        )
    targets = tuple(_target(str(name), entry, node["sizes"]) for name, entry in node["targets"].items())
    sizes = dict.fromkeys(size for target in targets for size in target.sizes)
    sources = tuple(one for name, entry in node["sources"].items() for one in _sources(str(name), entry))
    few, most = _count("study.draws", node["draws"]), _count("study.draws_of_many", node["draws_of_many"])
    return Axes(
        name=str(node["name"]),
        question=" ".join(str(node["question"] or "").split()),
        works=tuple(map(str, node["works"] or ())),
        sources=sources,
        targets=targets,
        modes=modes,
        draws={size: few if size is not None and size <= node["many"] else most for size in sizes},
        splits={str(name): _words(f"study.splits.{name}", words) for name, words in node["splits"].items()},
        baseline=str(node["baseline"]),
        settings=_words("study.settings", node["settings"]),
        claims=tuple(_claims(node, sources)),
    )


def _kept(entries: Any) -> Mapping[str, Any]:
    """Return the entries without those that are null: a YAML that builds on another one takes them away so."""
    return {k: v for k, v in entries.items() if v is not None} if isinstance(entries, Mapping) else {}


def _sources(name: str, entry: Mapping[str, Any]) -> Iterator[Source]:
    place = f"study.sources.{name}"
    if entry.get("source"):
        if set(entry) - {"source", "about"}:
            raise ConfigError(f"{place} has both source, a model that is there, and settings of a pretraining.")
        yield Source(name, name, None, str(entry["source"]), (), _about(entry))
        return
    words = _words(f"{place}.settings", entry.get("settings"))
    if entry.get("root"):
        words = (*words, f"data.root={_path(place, entry['root'])}")
    for given in _list(f"{place}.sizes", entry.get("sizes", [None])):
        size = _size(f"{place}.sizes", given)
        own = f"{name}-{size}" if len(entry.get("sizes", [None])) > 1 else name
        count = f"split.train_size={'null' if size is None else size}"
        yield Source(own, name, size, "", (*words, count), _about(entry))


def _target(name: str, entry: Mapping[str, Any], sizes: Any) -> Target:
    place = f"study.targets.{name}"
    root = [f"target.data.root={_path(place, entry['root'])}"] if entry.get("root") else []
    words = (f"target={entry.get('target', name)}", *root, *_words(place, entry.get("settings")))
    at = f"{place}.sizes" if "sizes" in entry else "study.sizes"
    return Target(name, words, tuple(_size(at, size) for size in _list(at, entry.get("sizes", sizes))), _about(entry))


def _mode(name: str, entry: Mapping[str, Any]) -> Mode:
    words = (f"mode={entry.get('mode', name)}", *_words(f"study.modes.{name}.settings", entry.get("settings")))
    return Mode(name, bool(entry.get("once", entry.get("mode", name) == "scratch")), words, _about(entry))


def _claims(node: Mapping[str, Any], sources: Sequence[Source]) -> Iterator[Claim]:
    """Yield the claims; the name of a pretraining of several sizes stands for the largest of them."""
    largest = {one.family: one.name for one in sorted(sources, key=lambda one: (one.rows is None, one.rows or 0))}
    known = ("says", "mode", "source", "target", "size", "lower")
    for number, entry in enumerate(node["claims"] or ()):
        _refuse_unknown(f"study.claims[{number}]", entry, known)
        mode = str(entry.get("mode") or "")
        if mode not in node["modes"] or mode == node["baseline"]:
            raise ConfigError(f"study.claims[{number}].mode={mode} is no mode of the study besides its baseline.")
        source, target, size = (entry.get(key) for key in ("source", "target", "size"))
        rows = None if size is None else int(size)
        named = largest.get(str(source), str(source or ""))
        yield Claim(str(entry["says"]), mode, named, str(target or ""), rows, bool(entry["lower"]))


def _about(entry: Mapping[str, Any]) -> str:
    return " ".join(str(entry.get("about") or "").split())


def _refuse_unknown(place: str, entry: Any, known: Sequence[str]) -> None:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{place} must be keys and values, such as {known[0]}: NAME.")
    for key in entry:
        if key not in known:
            raise ConfigError(f"{place} takes no {str(key)!r}.{nearest(str(key), known)}")


def _words(place: str, given: Any) -> tuple[str, ...]:
    words = tuple(map(str, _list(place, given or [])))
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise ConfigError(f"{place} has {word!r}, which is no override; write KEY=VALUE.")
    return words


def _list(place: str, given: Any) -> Sequence[Any]:
    if not isinstance(given, list | tuple):
        raise ConfigError(f"{place}={given} must be a list, as [{given}].")
    return given


def _size(place: str, given: Any) -> int | None:
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 1):
        raise ConfigError(f"{place} has {given!r}; a size is a number of rows, or null for all.")
    return given


def _count(place: str, given: Any) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigError(f"{place}={given} must be a whole number of 1 or more.")
    return given


def _path(place: str, root: Any) -> str:
    path = Path(str(root)).expanduser()
    if not path.exists():
        raise ConfigError(f"{place}.root={root} does not exist; name the file or folder with its data.")
    # Hydra splits a value at commas and reads brackets, unless it is quoted.
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"
