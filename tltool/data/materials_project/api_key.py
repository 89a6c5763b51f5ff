"""The API key of the Materials Project: it is read from the environment only, and written to no file.

Hydra writes every override and every key of a config into files of the run. So an API key in an override or a config is
an error before anything is written.
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
# An API key by its name at any depth, also inside {...}; a key called key in data; or one read from the environment.
_SUSPECT = re.compile(
    rf"(?:^|[.{{,+~\s\"'])({_NAME})[\"']?\s*[=:]|\bdata\b[^=]*[={{].*\b(key)[\"']?\s*:"
    rf"|\bdata\.[\w.]*\b(key)=|({'|'.join(_NAMES)})",
    re.IGNORECASE,
)


def api_key() -> str:
    """Return the API key in MP_API_KEY, or else in pymatgen's settings (PMG_MAPI_KEY); raise ConfigError if none."""
    key = (os.environ.get("MP_API_KEY") or _of_pymatgen() or "").strip()
    if not key:
        raise ConfigError(
            f"The Materials Project needs an API key; {_WHERE}, or pass data.root=FOLDER with a folder that was "
            "fetched before."
        )
    if len(key) != LENGTH:
        raise ConfigError(f"The API key has {len(key)} characters, but {LENGTH} are needed; {_WHERE}.")
    return key


def hidden(text: str, key: str) -> str:
    """Return ``text`` without ``key``, for messages and files."""
    return text.replace(key, "***")


def refuse_overrides(words: Iterable[str]) -> None:
    """Raise ConfigError for an override that sets an API key, or contains the one of the environment."""
    known = _known()
    for word in words:
        found = _SUSPECT.search(word)
        if found or any(key in word for key in known):
            name = f" {next(filter(None, found.groups()))}" if found else ""
            raise ConfigError(
                f"An API key may not be given as an override{name}, because it would be written to files; {_WHERE}."
            )


def refuse_config(node: Any, path: str = "") -> None:
    """Raise ConfigError for an API key in a composed config, for example from a user's YAML."""
    known = _known()
    if isinstance(node, Mapping):
        for name, value in node.items():
            where = f"{path}{name}"
            of_data = name == "key" and re.search(r"(?:^|\.)data\.", path)
            if of_data or re.fullmatch(_NAME, str(name), re.IGNORECASE):
                raise ConfigError(f"An API key may not be in a config ({where}); {_WHERE}.")
            refuse_config(value, f"{where}.")
    elif isinstance(node, (list, tuple)):
        for value in node:
            refuse_config(value, path)
    elif isinstance(node, str) and any(key in node for key in known):
        raise ConfigError(f"An API key may not be in a config ({path.rstrip('.')}); {_WHERE}.")


def _known() -> list[str]:
    # A short word could occur anywhere by chance; a real key has 32 characters.
    return [key for name in _NAMES if len(key := os.environ.get(name, "")) >= LENGTH // 2]


def _of_pymatgen() -> str | None:
    from pymatgen.core import SETTINGS

    found = SETTINGS.get("PMG_MAPI_KEY")
    return found if isinstance(found, str) else None
