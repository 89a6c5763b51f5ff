"""``tltool show KIND NAME``: what a data set, target, encoder, mode or quantity is, from its YAML file."""

import textwrap
from collections.abc import Iterable, Sequence
from importlib.resources.abc import Traversable

from tltool.command_line import config_files
from tltool.command_line.config_files import ConfigFile
from tltool.errors import ConfigError, nearest
from tltool.quantities import shipped

KINDS = {
    "data": "tltool pretrain data={name}",
    "target": "tltool transfer target={name}",
    "encoder": "tltool pretrain encoder={name}",
    "mode": "tltool transfer mode={name}",
    "quantity": "tltool pretrain data=NAME quantities=[{name}]",
}
"""What can be shown, and the command that uses one where its header gives none."""

_WIDTH = 100


def show(words: Sequence[str]) -> str:
    """Return what ``words``, a kind and a name, are; without a name all names with a line each.

    Raises ConfigError for a kind or a name that is not known.
    """
    tree = config_files.roots(words)
    kind, name = ([word for word in words if not word.startswith("-")] + ["", ""])[:2]
    if kind not in KINDS:
        raise ConfigError(f"tltool show {kind or 'KIND'}: the kind is one of {', '.join(KINDS)}.{_near(kind, KINDS)}")
    known = _known(kind, tree)
    if not name:
        first = max(map(len, known), default=0)
        return "\n".join(f"  {each:<{first}}  {_cut(about, _WIDTH - first - 4)}" for each, about in known.items())
    if name not in known:
        raise ConfigError(f"There is no {kind} {name!r}.{_near(name, known)} tltool show {kind} shows all names.")
    rows = _quantity(name) if kind == "quantity" else _file(kind, name, tree)
    return "\n".join([name, *(line for title, text in rows for line in _lines(title, text) if text)])


def _known(kind: str, tree: Sequence[Traversable]) -> dict[str, str]:
    """Return the names of a kind, each with one sentence."""
    if kind == "quantity":
        return {name: f"{one.meaning} ({one.unit})" for name, one in shipped().items()}
    return {name: _there(kind, name, tree).summary for name in config_files.names(kind, tree)}


def _file(kind: str, name: str, tree: Sequence[Traversable]) -> list[tuple[str, str]]:
    """Return what a YAML file says, by title: in its header, and in the keys that name source, unit and licence."""
    file = _there(kind, name, tree)
    data = [_there(d.group, d.name, tree) for d in file.defaults if d.place == "data"]
    keys = {key.name: key.value.strip("\"'") for part in (*data, file) for key in part.keys}
    about = [part for part in (file, *data) if part]
    quantities = [word.strip(" []") for word in keys.get("quantities", "").split(",")]
    units = [f"{one}: {shipped()[one].meaning} ({shipped()[one].unit})" for one in quantities if one in shipped()]
    root = {"bundled": "ships with tltool", "???": "your own; name it with root="}
    where = root.get(keys.get("root", ""), keys.get("address", ""))
    return [
        ("", " ".join(file.prose)),
        ("data", next((d.name for d in file.defaults if d.place == "data"), "")),
        ("learnt", "; ".join(units)),
        ("where", where),
        ("source", next((note for part in about if (note := part.note("Source"))), keys.get("citation", ""))),
        ("licence", next((note for part in about if (note := part.note("Licence"))), keys.get("licence", ""))),
        *(("use", command) for command in file.commands or [KINDS[kind].format(name=name)]),
        ("keys", f"tltool {KINDS[kind].split()[1]} --help {kind}={name}"),
    ]


def _quantity(name: str) -> list[tuple[str, str]]:
    one = shipped()[name]
    limits = f"{one.least:g} to {one.most:g} {one.unit}"
    return [
        ("", one.meaning),
        ("unit", one.unit),
        ("limits", "0 or 1, a class" if one.is_class else limits),
        ("log10 of", one.log10_of or ""),
        ("use", KINDS["quantity"].format(name=name)),
    ]


def _lines(title: str, text: str) -> list[str]:
    begin = f"  {title:<8}  "
    # A command is one line, to copy.
    if title in ("use", "keys"):
        return [begin + text]
    return textwrap.wrap(text, _WIDTH, initial_indent=begin, subsequent_indent=" " * len(begin))


def _cut(text: str, width: int) -> str:
    return textwrap.shorten(text, width, placeholder=" ...")


def _near(word: str, known: Iterable[str]) -> str:
    found = nearest(word, known)
    return found if "Did you mean" in found else ""


def _there(group: str, name: str, tree: Sequence[Traversable]) -> ConfigFile:
    file = config_files.merged(group, name, tree)
    if file is None:
        raise ConfigError(f"There is no {group} {name!r}; tltool show {group} shows all names.")
    return file
