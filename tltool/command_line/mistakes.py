"""What is wrong with a command line that Hydra cannot compose, as one sentence with the next step.

Hydra answers with its search path and a page of names. Here the nearest name comes first, and the whole path of a key.
"""

from collections.abc import Iterable, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from tltool.command_line import config_files
from tltool.command_line.usage import STAGES
from tltool.config_tree import leaves
from tltool.errors import ConfigError, nearest

_COMPOSITIONS = ("matbench_steels", "matbench_expt_gap", "matbench_expt_is_metal", "matbench_glass")

_LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm"}
"""Extras that bring launchers of Hydra."""

_FLAGS = {"--cfg": 1, "-c": 1, "--package": 1, "-p": 1, "--config-path": 1, "-cp": 1, "--config-name": 1, "-cn": 1}
_FLAGS |= {"--config-dir": 1, "-cd": 1, "--experimental-rerun": 1, "--info": 1, "-i": 1, "--shell-completion": 0}
_FLAGS |= dict.fromkeys(("--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m", "-sc"), 0)
"""Flags of Hydra, and how many words follow each."""

_ADAPTERS = {".csv": "table", ".parquet": "table", ".json": "table", ".gz": "table", ".xz": "table", ".db": "ase"}
"""What the name of a user's own file ends with -> the data set that reads such files."""

_INSTEAD = {
    ("transfer", "data"): "the data of a transfer are those of its target; use target=NAME, or your own as "
    "target=folder target.data.root=DIR",
    ("transfer", "quantities"): "a transfer learns target.quantities; use target.quantities=[NAME]",
    ("pretrain", "target"): "pretrain learns from data=NAME; a target belongs to tltool transfer",
}
_FEW = 10
_OF_THE_SOURCE = ("encoder", "readout", "trunk", "head")


def refuse_words(stage: str, words: Sequence[str]) -> None:
    """Raise ConfigError for a word that is neither a flag nor KEY=VALUE in the grammar of Hydra."""
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in _FLAGS:
            key = word.partition("=")[0].lstrip("-").replace("-", "_")
            raise ConfigError(f"{stage} takes no {word}; settings have no dashes, write {key}=VALUE.")
    settings = flags_first(words)[1]
    for at, word in enumerate(settings):
        if "=" not in word and not word.startswith("~"):
            raise ConfigError(_no_setting(stage, word, settings[at - 1] if at else ""))
        try:
            OverridesParser.create().parse_override(word)
        except HydraException:
            raise ConfigError(_not_understood(word)) from None


def flags_first(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags of Hydra among ``words``, with the word that follows some of them, and all other words."""
    flags: list[str] = []
    settings: list[str] = []
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        follows = before in _FLAGS and _FLAGS[before]
        (flags if follows or word.startswith("-") else settings).append(word)
    return flags, settings


def unknown_choice(missing: str, stage: str, words: Iterable[str]) -> str:
    """Return what to say of a file ``missing`` (its group and name) that the config asks for."""
    of_word = {f"{_group(word)}/{word.partition('=')[2]}": word.lstrip("+") for word in words}
    name, _, value = of_word.get(missing, "=".join(missing.rsplit("/", 1))).partition("=")
    if value in _LAUNCHERS:
        return f"This launcher is not installed; run pip install 'tltool[{_LAUNCHERS[value]}]'."
    if value in _COMPOSITIONS:
        return (
            f"{value} holds compositions without structures; read its file with target=formulas and mode=features, "
            "or use another task, such as target=matbench_phonons."
        )
    group = _group(name)
    place = name.partition("@")[2] or group
    if group in ("data", "target") and ("/" in value or "." in value or Path(value).exists()):
        kind = "folder" if Path(value).is_dir() else _ADAPTERS.get(Path(value).suffix, "folder")
        root = f"{place}.data.root" if group == "target" else f"{place}.root"
        return f"{name}={value} is a path, and {name} takes a name; use {name}={kind} {root}={value}."
    folder = f"{stage}/experiment" if group == "experiment" else group
    known = config_files.names(folder, config_files.roots(list(words)))
    close = nearest(value, known)
    if "Known" not in close or len(known) > _FEW:
        close = f"{close.partition(' Known')[0]} tltool {stage} --help {group} shows all names."
    return f"{name}={value} is not known.{close}"


def unknown_key(key: str, root: Any, stage: str, words: Sequence[str]) -> str:
    """Return what to say of the dotted ``key``, one of ``words``, that the config tree ``root`` does not have."""
    key = next((name for word in words if (name := _name(word)).startswith(f"{key}.")), key)
    top = key.partition(".")[0]
    tree: Any = OmegaConf.to_container(root, resolve=False)
    plain = {k: v for k, v in tree.items() if k != "hydra"}
    if top not in plain and (reason := elsewhere(stage, top)):
        return reason
    if holders := _choices_with(key, config_files.roots(words)):
        verb = "has" if len(holders) == 1 else "have"
        return f"There is no key {key!r} with this {top}=; {' and '.join(holders)} {verb} it."
    close = near_keys(key, leaves(plain))
    hint = f"Did you mean {close}?" if close else f"tltool {stage} --help shows all keys."
    return f"There is no key {key!r}. {hint}"


def elsewhere(stage: str, key: str) -> str:
    """Return where to set ``key``, which ``stage`` does not have and another stage has; empty if none has it."""
    if key in _OF_THE_SOURCE and stage == "transfer":
        return (
            f"transfer takes no {key}: the source model has its own; train another source with "
            f"tltool pretrain {key}=NAME, and name its run folder with source=."
        )
    if (stage, key) in _INSTEAD:
        return f"{stage} takes no {key}: {_INSTEAD[stage, key]}."
    owners = [other for other in STAGES if other != stage and key in _tops(other)]
    return f"{stage} takes no {key}; it belongs to tltool {' and tltool '.join(owners)}." if owners else ""


def near_keys(key: str, known: Iterable[str]) -> str:
    """Return the known keys nearest to ``key``, each with its whole path, in words; empty if none is near.

    First those with the same last part, then those beside it, then any; of several the ones least deep.
    """
    known = [name for name in known if not name.endswith("_target_")]
    above, _, last = key.rpartition(".")
    found = [name for name in known if name.rpartition(".")[2] == last]
    if not found:
        beside = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == above and above]
        word = nearest(last, beside) if beside else ""
        if "Did you mean" not in word:
            beside, word = [], nearest(last, {name.rpartition(".")[2] for name in known})
        near = word.split("'")[1] if "Did you mean" in word else None
        found = [f"{above}.{near}"] if beside and near else [n for n in known if n.rpartition(".")[2] == near]
    least = min((name.count(".") for name in found), default=0)
    return " or ".join(repr(name) for name in found if name.count(".") == least)


def _no_setting(stage: str, word: str, before: str) -> str:
    if before.endswith("="):
        return f"{before} and {word} stand apart; write {before}{word} without a space."
    tree = config_files.roots()
    file = config_files.read("", stage, tree)
    groups = [d.group for d in (file.defaults if file else []) if d.group and word in config_files.names(d.group, tree)]
    such = f"{groups[0]}={word}" if groups else "fit.epochs=50"
    return f"{word!r} is no setting; write KEY=VALUE, such as {such}."


def _not_understood(word: str) -> str:
    """Return how to quote the value of ``word``, if quotes make it one."""
    key, _, value = word.partition("=")
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else None
    plain = f'["{inner}"]' if inner is not None else f'"{value}"'
    try:
        OverridesParser.create().parse_override(f"{key}={plain}")
    except HydraException:
        return f"{word} is not understood; write it as KEY=VALUE, with quotes around what is not a plain word."
    return (
        f"{word} is not understood, because of its brackets, braces or signs; put the value in quotes of two kinds: "
        f"'{key}={plain}'."
    )


def _choices_with(key: str, tree: Sequence[Traversable]) -> list[str]:
    """Return the files of a group, as ``split=matbench``, that have the dotted ``key``."""
    group, _, inner = key.partition(".")
    found = {name: config_files.merged(group, name, tree) for name in config_files.names(group, tree)}
    return [f"{group}={name}" for name, file in found.items() if file and inner in [k.name for k in file.keys]]


def _name(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def _group(word: str) -> str:
    return word.partition("=")[0].partition("@")[0].lstrip("+~")


def _tops(stage: str) -> set[str]:
    file = config_files.read("", stage, config_files.roots())
    if file is None:
        return set()
    return {key.name for key in file.keys if key.name not in ("hydra", "stage")} | {d.place for d in file.defaults}
