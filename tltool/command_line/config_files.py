"""The YAML files of the config tree as text: their header comments, their keys, and the comment beside each key.

``--help`` and ``tltool show`` read them without Hydra, which takes a second to import. A description of a key or of a
file has one home, its comment.
"""

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

_COMMENT = re.compile(r"\s*#\s?(.*)")
_NOTES = ("Source:", "Licence:")
_COMMAND = re.compile(r"\s{2,}(tltool .*)")


class Key(NamedTuple):
    """A key of a YAML file: its dotted ``name``, its ``value`` as it stands there, and its comment ``about``."""

    name: str
    value: str
    about: str


class Default(NamedTuple):
    """A choice in a defaults list: the file ``name`` of ``group``, put at ``place``, with its comment ``about``."""

    group: str
    place: str
    name: str
    about: str


class ConfigFile(NamedTuple):
    """A YAML file: the prose and the commands of its header, its defaults list and its keys."""

    header: list[str]
    commands: list[str]
    defaults: list[Default]
    keys: list[Key]

    @property
    def summary(self) -> str:
        """The first sentence of the header, up to a line that ends with a full stop."""
        lines = self.prose
        end = next((n for n, line in enumerate(lines, 1) if line.endswith(".")), len(lines))
        return " ".join(lines[:end])

    @property
    def prose(self) -> list[str]:
        """The lines of the header before those on source and licence."""
        return list(takewhile(lambda line: not line.startswith(_NOTES), self.header))

    def note(self, name: str) -> str:
        """Return what the header says after ``name:`` (Source, Licence), up to the next line that begins a sentence."""
        lines = iter(self.header)
        for line in lines:
            if line.startswith(f"{name}: "):
                more = takewhile(lambda further: further[:1].islower(), lines)
                return " ".join([line.removeprefix(f"{name}: "), *more])
        return ""


def roots(words: Sequence[str] = ()) -> list[Traversable]:
    """Return the folders of config files: that of tltool, and those of ``--config-dir`` among ``words``."""
    found: list[Traversable] = [files("tltool.configs")]
    for at, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            found += [Path(value or "".join(words[at + 1 : at + 2]))]
    return found


def names(group: str, tree: Sequence[Traversable]) -> list[str]:
    """Return the names of the files of ``group``, sorted."""
    folders = [root.joinpath(*group.split("/")) for root in tree]
    return sorted(
        {f.name.removesuffix(".yaml") for d in folders if d.is_dir() for f in d.iterdir() if f.name.endswith(".yaml")}
    )


def groups(tree: Sequence[Traversable]) -> list[str]:
    """Return the names of all groups, those within groups as ``mode/regressor``."""
    return sorted({name for root in tree for name in _groups_below(root, "")})


def read(group: str, name: str, tree: Sequence[Traversable]) -> ConfigFile | None:
    """Return the file ``name`` of ``group`` (empty for a stage), parsed; None if it is not there."""
    for root in reversed(tree):
        path = root.joinpath(*filter(None, group.split("/")), f"{name}.yaml")
        if path.is_file():
            return parsed(path.read_text(encoding="utf-8"), group)
    return None


def parsed(text: str, group: str = "") -> ConfigFile:
    """Return what the YAML ``text`` of a file of ``group`` holds."""
    lines = text.splitlines()
    top = []
    for line in lines:
        if not line.startswith("#"):
            break
        top.append(line[1:])
    commands = [found[1] for line in top if (found := _COMMAND.fullmatch(line))]
    prose = [line.strip() for line in top if not _COMMAND.fullmatch(line) and not line.startswith(" @package")]
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    keys: list[Key] = []
    defaults: list[Default] = []
    for key, value in tree.value if isinstance(tree, MappingNode) else ():
        if key.value == "defaults":
            defaults = [one for item in value.value if (one := _default(item, lines, group))]
        else:
            keys += _keys(key, value, "", lines)
    return ConfigFile(prose, commands, defaults, keys)


def merged(group: str, name: str, tree: Sequence[Traversable]) -> ConfigFile | None:
    """Return ``read`` with the keys of the files that it builds on, each with the comment that is nearest to it.

    Files of other groups stay in ``defaults``.
    """
    own = read(group, name, tree)
    if own is None:
        return None
    keys: dict[str, Key] = {}
    others: list[Default] = []
    for default in own.defaults:
        below = merged(group, default.name, tree) if (default.group, default.place) == (group, "") else None
        if below is None:
            others.append(default)
            continue
        keys |= {key.name: key for key in below.keys}
        others += below.defaults
    for key in own.keys:
        about = key.about or (keys[key.name].about if key.name in keys else "")
        keys[key.name] = key._replace(about=about)
    return own._replace(keys=list(keys.values()), defaults=others)


def _groups_below(folder: Traversable, name: str) -> Iterator[str]:
    if not folder.is_dir():
        return
    for part in folder.iterdir():
        if part.is_dir() and not part.name.startswith(("_", ".")):
            inner = f"{name}/{part.name}".lstrip("/")
            if any(f.name.endswith(".yaml") for f in part.iterdir()):
                yield inner
            yield from _groups_below(part, inner)


def _default(item: Node, lines: Sequence[str], group: str) -> Default | None:
    """Return an entry of a defaults list; None for ``_self_`` and for an override of what another entry chose."""
    about = _beside(lines, item.end_mark.line, item.end_mark.column)
    if not isinstance(item, MappingNode):
        return None if item.value == "_self_" else Default(group, "", str(item.value), about)
    key, value = item.value[0]
    words = str(key.value).split()
    if "override" in words:
        return None
    of, _, place = words[-1].partition("@")
    inside = of.lstrip("/") if of.startswith("/") or not group else f"{group}/{of}"
    about = _beside(lines, value.end_mark.line, value.end_mark.column)
    return Default(inside, place or of.lstrip("/").replace("/", "."), str(value.value), about)


def _keys(key: Node, value: Node, place: str, lines: Sequence[str]) -> Iterator[Key]:
    """Yield a key and, of a mapping in block style, those within it."""
    name = f"{place}.{key.value}".lstrip(".")
    if isinstance(value, (MappingNode, SequenceNode)) and not value.flow_style:
        about = _beside(lines, key.end_mark.line, key.end_mark.column + 1)
        yield Key(name, "[...]" if isinstance(value, SequenceNode) else "", about)
        for k, v in value.value if isinstance(value, MappingNode) else ():
            yield from _keys(k, v, name, lines)
        return
    begin, end = value.start_mark, value.end_mark
    shown = lines[begin.line][begin.column : end.column if end.line == begin.line else None].strip()
    yield Key(name, "" if shown.startswith((">", "|")) else shown, _beside(lines, end.line, end.column))


def _beside(lines: Sequence[str], line: int, column: int) -> str:
    """Return the comment after ``column`` of ``line``, with its further lines, which hold nothing else."""
    found = _COMMENT.fullmatch(lines[line][column:]) if line < len(lines) else None
    if not found:
        return ""
    at = lines[line].index("#", column)
    parts = [found[1]]
    for text in lines[line + 1 :]:
        if len(text) <= at or text[:at].strip() or text[at] != "#":
            break
        parts.append(text[at + 1 :].strip())
    return " ".join(parts)
