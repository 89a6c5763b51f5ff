"""``tltool STAGE --help``: one screen of what can be set, and ``--help NAME`` for a group or a key.

All descriptions are the comments of the YAML files.
"""

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import NamedTuple

from tltool.command_line import config_files
from tltool.command_line.config_files import ConfigFile, Default, Key
from tltool.errors import ConfigError, nearest

_WIDTH = 100
_NESTED = 3
"""A file that is put together from more files of other groups names them and does not show their keys."""

_MORE = """\
More:
  {help:<32}  the names that a choice takes, and keys (also {group}=NAME)
  {cfg:<32}  the config of a run, after its overrides
"""


class _Row(NamedTuple):
    name: str
    value: str
    about: str


class _Stage(NamedTuple):
    """A stage: its name, the folders of config files, and the file taken of each group unless another was chosen."""

    name: str
    tree: Sequence[Traversable]
    chosen: Mapping[str, str]

    def file(self) -> ConfigFile:
        return _there(config_files.read("", self.name, self.tree))

    def groups(self) -> list[Default]:
        """Return the choices of the stage, with the file that is taken."""
        found = [d for d in self.file().defaults if d.group]
        return [d._replace(name=self.chosen.get(d.place, d.name)) for d in found]

    def places(self) -> dict[str, Default]:
        """Return the choices by their places in the config, those within what was chosen too."""
        found: dict[str, Default] = {}
        for default in self.groups():
            _add(found, default, self)
        return found

    def at(self, word: str) -> Default | None:
        """Return the choice that ``word`` names by its place or its group; None if it names none."""
        places = self.places()
        group, place = word.replace(".", "/"), word.replace("/", ".")
        if place in places:
            return places[place]
        # A group of a mode that was not chosen.
        is_there = group.partition("/")[0] in places and group in config_files.groups(self.tree)
        return Default(group, place, "", "") if is_there else None


def _add(found: dict[str, Default], default: Default, here: _Stage) -> None:
    """Add ``default`` and the choices in its file to ``found``."""
    taken = default._replace(name=here.chosen.get(default.place, default.name))
    group = taken.group if taken.place != "experiment" else f"{here.name}/experiment"
    found[taken.place] = taken._replace(group=group)
    file = config_files.merged(group, taken.name, here.tree)
    if file is None or len(file.defaults) > _NESTED:
        return
    for inner in file.defaults:
        if not inner.place.startswith("_global_"):
            _add(found, inner._replace(place=f"{taken.place}.{inner.place}"), here)


def stage_help(stage: str, words: Sequence[str]) -> str:
    """Return the help of ``stage``, or of what ``words`` name: a group, a choice of one, a key.

    Raises ConfigError for a word that names nothing, with the nearest that does.
    """
    asked = _asked(words)
    chosen = {name.replace("/", "."): value for name, eq, value in (w.partition("=") for w in asked) if eq}
    here = _Stage(stage, config_files.roots(words), chosen)
    if not asked:
        return _screen(here)
    return "\n".join(dict.fromkeys(_part(here, word) for word in asked))


def _asked(words: Sequence[str]) -> list[str]:
    """Return ``words`` without flags and the values of flags."""
    found, skip = [], False
    for word in words:
        if not skip and not word.startswith("-"):
            found.append(word.lstrip("+~"))
        skip = word in ("--config-dir", "-cd")
    return found


def _screen(here: _Stage) -> str:
    own, common = here.file(), _there(config_files.read("", "common", here.tree))
    choices = [_Row(_name(d), d.name.replace("null", "-"), d.about) for d in here.groups()]
    keys = [_row(key) for key in own.keys if _is_top(key) and key.name not in ("stage", "hydra")]
    every = [_row(key) for key in common.keys if _is_top(key) and key.name != "hydra"]
    lines = [*textwrap.wrap(own.summary, _width()), *(f"  {command}" for command in own.commands), ""]
    lines += ["Choices, as KEY=NAME (KEY.PART=VALUE sets a key of what was chosen):", *_table(choices)]
    lines += ["Keys, as KEY=VALUE:", *_table(keys)] if keys else []
    lines += ["Keys of every stage:", *_table(every)]
    return "\n".join(lines) + "\n" + _more(here)


def _more(here: _Stage) -> str:
    group = here.groups()[0].place
    return _MORE.format(help=f"tltool {here.name} --help {group}", cfg=f"tltool {here.name} --cfg job", group=group)


def _part(here: _Stage, word: str) -> str:
    """Return the help of one group, choice or key."""
    name = word.partition("=")[0]
    choice = here.at(name)
    if choice:
        return _group(here, choice)
    keys = _all_keys(here)
    found = [key for key in keys if key.name == name or key.name.startswith(f"{name}.")]
    if not found:
        raise ConfigError(f"{here.name} has no key {name!r}.{_near(name, [key.name for key in keys])}")
    return "\n".join(_table(map(_row, found)))


def _near(name: str, known: Sequence[str]) -> str:
    """Return the key that ends in ``name``, or the nearest one."""
    ends = [key for key in known if key.rpartition(".")[2] == name]
    found = f" Did you mean {ends[0]!r}?" if ends else nearest(name, known)
    return found if "?" in found else " Leave it out for all keys."


def _group(here: _Stage, choice: Default) -> str:
    """Return the names of a group with a line each, and the keys of the one that is taken."""
    known = config_files.names(choice.group, here.tree)
    taken = here.chosen.get(choice.place, choice.name)
    if taken not in ("", "null", *known):
        raise ConfigError(f"{choice.place}={taken} is not known.{nearest(taken, known)}")
    about = {name: _there(config_files.read(choice.group, name, here.tree)).summary for name in known}
    first = max(map(len, known), default=0)
    now = f" (taken is {taken})" if taken in known else ""
    lines = textwrap.wrap(f"{choice.place}: {choice.about}".strip(), _width()) if choice.about else []
    lines += [f"Names, as {_name(choice)}=NAME{now}:"]
    lines += [f"  {name:<{first}}  {_brief(text, _width() - first - 4)}".rstrip() for name, text in about.items()]
    keys = [_row(key) for key in _keys_of(here, choice) if not key.name.endswith("_target_")]
    lines += ["", f"Keys of {choice.place}={taken}:", *_table(keys)] if keys else [""]
    return "\n".join(lines)


def _brief(sentence: str, width: int) -> str:
    """Return ``sentence``, or as much as fits and ends with a clause, or with a word."""
    if len(sentence) <= width:
        return sentence
    for mark in ("; ", ": ", ", ", " "):
        at = sentence.rfind(mark, width // 2, width - 3)
        if at > 0:
            return f"{sentence[:at]} ..."
    return f"{sentence[: width - 4]} ..."


def _all_keys(here: _Stage) -> list[Key]:
    own = [key for file in (here.file(), _there(config_files.read("", "common", here.tree))) for key in file.keys]
    found = [key for key in own if key.name.partition(".")[0] not in ("hydra", "stage")]
    for place, choice in here.places().items():
        found += [Key(place, choice.name, choice.about)]
        file = config_files.merged(choice.group, choice.name, here.tree)
        found += [key._replace(name=f"{place}.{key.name}") for key in (file.keys if file else ())]
    return found


def _keys_of(here: _Stage, choice: Default) -> Iterator[Key]:
    """Yield the keys of the file that ``choice`` takes, by their whole names, and those of the choices within it."""
    file = config_files.merged(choice.group, choice.name, here.tree)
    if file is None:
        return
    own = {key.name for key in file.keys}
    for key in file.keys:
        yield key._replace(name=f"{choice.place}.{key.name}")
    for inner in file.defaults:
        place = f"{choice.place}.{inner.place}"
        if inner.place.startswith("_global_"):
            yield Key(inner.place.removeprefix("_global_."), inner.name, inner.about)
            continue
        taken = inner._replace(place=place, name=here.chosen.get(place, inner.name))
        if inner.place not in own:
            yield Key(place, taken.name, inner.about or f"--help {place} has the other names")
        if len(file.defaults) <= _NESTED:
            yield from _keys_of(here, taken)


def _row(key: Key) -> _Row:
    value = re.sub(r"\$\{oc\.env:(\w+),.*\}", r"$\1", key.value)
    return _Row(key.name, value, key.about)


def _name(default: Default) -> str:
    group, place = default.group, default.place
    return group if place == group.replace("/", ".") else place if place == "experiment" else f"{group}@{place}"


def _is_top(key: Key) -> bool:
    return "." not in key.name


def _table(rows: Iterable[_Row]) -> list[str]:
    """Return ``rows`` in columns, none wider than the help, with an empty line at the end."""
    rows = list(rows)
    first = min(max((len(row.name) for row in rows), default=0), 30)
    second = min(max((len(row.value) for row in rows), default=0), 18)
    lines: list[str] = []
    for row in rows:
        begin = f"  {row.name:<{first}}  " + (f"{row.value:<{second}}  " if second else "")
        indent = " " * (first + 4 + (second + 2 if second else 0))
        if len(begin) > len(indent) and len(begin) > _width() // 2 and row.about:
            lines.append(_brief(begin.rstrip(), _width()))
            begin = indent
        wrapped = textwrap.wrap(row.about, _width(), initial_indent=begin, subsequent_indent=indent)
        lines += wrapped or [_brief(begin.rstrip(), _width())]
    return [*lines, ""]


def _width() -> int:
    return min(_WIDTH, max(60, shutil.get_terminal_size((_WIDTH, 40)).columns))


def _there(file: ConfigFile | None) -> ConfigFile:
    if file is None:
        raise ConfigError("The folder of config files of tltool is not complete; install tltool again.")
    return file
