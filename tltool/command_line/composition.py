"""Is a composed config one of the stage, and what Hydra says of one that it could not compose, as one sentence."""

from importlib.resources import files
from typing import Any

import yaml

from tltool.data.materials_project import api_key
from tltool.errors import ConfigError, nearest

_COMPOSITIONS = ("matbench_steels", "matbench_expt_gap", "matbench_expt_is_metal", "matbench_glass")

_LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm"}
"""Extras that bring launchers of Hydra."""


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
            raise ConfigError(f"{stage} has no key {key!r}.{nearest(key, known - {'defaults', 'hydra'})}")
    return dict(config)


def sentence(error: BaseException) -> str:
    """Return what Hydra or OmegaConf says in several lines as one, with the nearest known key."""
    cause = error.__cause__ or error
    text = " ".join(str(error).split())
    missing = str(getattr(error, "missing_cfg_file", None)).rpartition("/")[2]
    if missing in _LAUNCHERS:
        return f"This launcher is not installed; run pip install 'tltool[{_LAUNCHERS[missing]}]'."
    if missing in _COMPOSITIONS:
        return (
            f"{missing} holds compositions without structures; read its file with target=formulas and mode=features, "
            "or use another task, such as target=matbench_phonons."
        )
    key, parent = getattr(cause, "key", None), getattr(cause, "parent_node", None)
    if key is not None and parent is not None and hasattr(parent, "keys") and str(key) not in map(str, parent.keys()):
        return f"There is no key {getattr(cause, 'full_key', key)!r}.{nearest(str(key), map(str, parent.keys()))}"
    if "Missing mandatory value" in text or "MissingMandatoryValue" in type(error).__name__:
        name = getattr(cause, "full_key", None) or key
        return f"{name} must be given, as {name}=VALUE."
    return text
