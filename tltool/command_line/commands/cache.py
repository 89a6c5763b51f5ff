"""``tltool cache``: what stands in the cache and under the runs, and ``remove=NAME`` to remove one of it."""

import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from tltool.data.cache import contents
from tltool.data.cache.contents import Entry
from tltool.errors import ConfigError, ResourceError, nearest
from tltool.run_folder import disk

_KEYS = ("cache", "runs", "remove", "yes")
_TAKES = "tltool cache takes cache=DIR, runs=DIR, remove=NAME and yes=true"


def cache(words: Sequence[str], ask: Callable[[str], bool] | None = None) -> str:
    """Return what the command prints; ``ask`` says if the user agrees, and is None where nobody can be asked.

    ``words`` may be ``cache=DIR``, ``runs=DIR``, ``remove=NAME`` and ``yes=true``. Raises ConfigError for others, for a
    name that is not there, and where nobody can be asked, and ResourceError for what a run uses.
    """
    given = dict(_setting(word) for word in words)
    if "yes" in given and "remove" not in given:
        raise ConfigError("yes=true has no effect without remove=NAME; name what to remove.")
    place = Path(given.get("cache") or os.environ.get("TLTOOL_CACHE") or "~/.cache/tltool").expanduser()
    runs = Path(given.get("runs") or "runs").expanduser()
    found = {"cache": contents.entries(place), "runs": disk.entries(runs)}
    if "remove" not in given:
        return "\n\n".join(_listed(where, folder, found[where]) for where, folder in (("cache", place), ("runs", runs)))
    entry = _named(given["remove"], [*found["cache"], *found["runs"]])
    if entry.busy:
        raise ResourceError(f"{entry.name} is used by {entry.busy}; remove it when that has ended.")
    question = f"Remove {entry.path} ({entry.what}, {_size(entry.size)})?"
    if given.get("yes") != "true":
        if ask is None:
            raise ConfigError(f"{question} Nobody can be asked here, since this is no terminal; add yes=true.")
        if not ask(question):
            return "Nothing was removed."
    contents.removed(entry)
    return f"Removed {entry.path} ({_size(entry.size)})."


def asked(question: str) -> bool:
    """Ask on the terminal; return whether the answer is yes."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _setting(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    if key not in _KEYS or not value:
        raise ConfigError(f"{_TAKES}, not {word!r}.{nearest(key, _KEYS)}")
    if key == "yes" and value not in ("true", "false"):
        raise ConfigError(f"yes={value} is not known; use true or false.")
    return key, value


def _named(name: str, found: Sequence[Entry]) -> Entry:
    fits = [entry for entry in found if entry.name == name.rstrip("/")]
    if not fits:
        near = nearest(name, [entry.name for entry in found])
        raise ConfigError(f"There is no {name!r} in the cache or the runs; tltool cache lists the names.{near}")
    return fits[0]


def _listed(where: str, folder: Path, found: Sequence[Entry]) -> str:
    total = f"{where} {folder}: {_size(sum(entry.size for entry in found))} in {len(found)} folders"
    if not found:
        return f"{where} {folder}: nothing"
    first = max(len(entry.name) for entry in found)
    rows = [
        f"  {_size(entry.size):>9}  {datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}  {entry.name:<{first}}  "
        f"{entry.what}{f'; used by {entry.busy}' if entry.busy else ''}"
        for entry in found
    ]
    return "\n".join([f"{total}; size, last use, name, what it is:", *rows])


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
