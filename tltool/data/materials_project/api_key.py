"""The API key of the Materials Project: it comes from the environment alone and is written nowhere.

Hydra writes every override and every key of a config into files of the run, so that a key found there is refused
before anything is written.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tltool.errors import ConfigError

LENGTH = 32
_WHERE = "set it in the environment, as MP_API_KEY=... (from https://materialsproject.org/api)"
_NAMES = ("MP_API_KEY", "PMG_MAPI_KEY", "MAPI_KEY")
_NAME = r"[\w-]*api[_-]?key"
# An API key by its name, however deep, also inside {...}; one called key among data; or one read from the environment.
_SUSPECT = re.compile(
    rf"(?:^|[.{{,+~\s\"'])({_NAME})[\"']?\s*[=:]|\bdata\b[^=]*[={{].*\b(key)[\"']?\s*:"
    rf"|\bdata\.[\w.]*\b(key)=|({'|'.join(_NAMES)})",
    re.IGNORECASE,
)


def api_key() -> str:
    """Return the key that MP_API_KEY holds, or else pymatgen's settings (PMG_MAPI_KEY); raise ConfigError if none."""
    key = (os.environ.get("MP_API_KEY") or _of_pymatgen() or "").strip()
    if not key:
        raise ConfigError(
            f"The Materials Project asks for an API key; {_WHERE}, or pass data.root=FOLDER with what was fetched."
        )
    if len(key) != LENGTH:
        raise ConfigError(f"The API key has {len(key)} characters, and {LENGTH} are needed; {_WHERE}.")
    return key


def hidden(text: str, key: str) -> str:
    """Return ``text`` without ``key``, as it may stand in messages and files."""
    return text.replace(key, "***")


def refuse_overrides(words: Iterable[str]) -> None:
    """Raise ConfigError for an override that gives an API key, or holds the one of the environment."""
    known = _known()
    for word in words:
        found = _SUSPECT.search(word)
        if found or any(key in word for key in known):
            name = f" {next(filter(None, found.groups()))}" if found else ""
            raise ConfigError(f"An API key may not be given as an override{name}, it would stand in files; {_WHERE}.")


def refuse_config(node: Any, path: str = "") -> None:
    """Raise ConfigError for an API key in a composed config, as from a YAML of the user's own."""
    known = _known()
    if isinstance(node, Mapping):
        for name, value in node.items():
            where = f"{path}{name}"
            of_data = name == "key" and re.search(r"(?:^|\.)data\.", path)
            if of_data or re.fullmatch(_NAME, str(name), re.IGNORECASE):
                raise ConfigError(f"An API key may not stand in a config ({where}); {_WHERE}.")
            refuse_config(value, f"{where}.")
    elif isinstance(node, (list, tuple)):
        for value in node:
            refuse_config(value, path)
    elif isinstance(node, str) and any(key in node for key in known):
        raise ConfigError(f"An API key may not stand in a config ({path.rstrip('.')}); {_WHERE}.")


def _known() -> list[str]:
    # A short word could stand anywhere by chance; a real key has 32 characters.
    return [key for name in _NAMES if len(key := os.environ.get(name, "")) >= LENGTH // 2]


def _of_pymatgen() -> str | None:
    from pymatgen.core import SETTINGS

    found = SETTINGS.get("PMG_MAPI_KEY")
    return found if isinstance(found, str) else None
