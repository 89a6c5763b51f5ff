"""Is a composed config one of the stage, and what Hydra says of one that it could not compose, as one sentence."""

import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from tltool.command_line import config_files, mistakes
from tltool.data.materials_project import api_key
from tltool.errors import ConfigError, nearest
from tltool.renamed import renamed_key
from tltool.training.saved_model import plain_yaml

_FILES = 1000  # of a folder that are looked at
_NO_GROUP = re.compile(r"Could not override '(\S+?)'\. (?:No match in the defaults list|Did you mean to override)")


def checked(stage: str, config: Any) -> dict[str, Any]:
    """Return ``config``; raise ConfigError for a top-level key that the stage does not have, and for an API key."""
    api_key.refuse_config(config)
    known: set[str] = set()
    for name in ("common", stage):
        text = files("tltool.configs").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
        groups = [next(iter(d)) for d in tree.get("defaults", ()) if isinstance(d, dict)]
        known |= tree.keys() | {str(g).removeprefix("optional ").rpartition("@")[2] for g in groups}
    for key in config:
        if key not in known:
            other = mistakes.elsewhere(stage, str(key))
            raise ConfigError(other or f"{stage} has no key {key!r}.{nearest(key, known - {'defaults', 'hydra'})}")
    return dict(config)


def refuse_bombs(words: Sequence[str]) -> None:
    """Raise ConfigError for a YAML file in a folder of the user, if its aliases stand for too many values.

    OmegaConf copies a value for every alias, so that a few lines would fill the memory.
    """
    settings = [word for word in words if word.startswith("hydra.searchpath=")]
    searched = [path for word in settings for path in re.findall(r"file://([^,\]]+)", word)]
    given = [root for root in config_files.roots(words)[1:] if isinstance(root, Path)]
    for folder in (*given, *map(Path, searched)):
        for file in islice(sorted(folder.expanduser().glob("**/*.yaml")), _FILES):
            text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
            if "*" in text and plain_yaml.is_bomb(text):
                raise ConfigError(f"{file} has aliases (*NAME) for millions of values; write the values out.")


def sentence(error: BaseException, stage: str, words: Sequence[str]) -> str:
    """Return what Hydra or OmegaConf says in several lines of ``words`` as one, with the nearest known name."""
    cause = error.__cause__ or error
    text = " ".join(str(error).split())
    missing = getattr(error, "missing_cfg_file", None)
    if missing:
        return mistakes.unknown_choice(str(missing), stage, words)
    if found := _NO_GROUP.search(text):
        group = found[1].partition("@")[0]
        told = mistakes.elsewhere(stage, group)
        return told or f"{stage} takes no {group}=; tltool {stage} --help shows what it takes."
    key, parent = getattr(cause, "key", None), getattr(cause, "parent_node", None)
    gone = re.search(r"Could not delete from config\. '([^']+)' does not exist", text)
    old = gone.group(1) if gone else str(getattr(cause, "full_key", None) or key)
    if now := renamed_key(old):
        return now.sentence(old)
    if key is not None and parent is not None and hasattr(parent, "keys") and str(key) not in map(str, parent.keys()):
        return mistakes.unknown_key(str(getattr(cause, "full_key", key)), parent._get_root(), stage, words)
    if "Missing mandatory value" in text or "MissingMandatoryValue" in type(error).__name__:
        name = getattr(cause, "full_key", None) or key
        return f"{name} must be given, as {name}=VALUE."
    return text
