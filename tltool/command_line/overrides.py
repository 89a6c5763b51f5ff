"""The words of a command line against its config: one that no run reads is an error, before any work begins."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from tltool import machine
from tltool.command_line import config_files, early_checks
from tltool.command_line.idle_keys import idle_keys, why
from tltool.config_tree import leaves
from tltool.data import own_labels
from tltool.errors import ConfigError, TltoolError
from tltool.instantiate import Idle

_DRAWS = ("seed", "split.seed", "split.draw", "split.fold", "hydra.run.dir", "hydra.sweep.dir")
"""Keys whose value never decides whether another one is read."""

_OTHER = "(another value)"
_NONE = " has no effect"


class Cell(NamedTuple):
    """One run: its config without Hydra's own, the words that made it, and which choice was taken of each group."""

    config: DictConfig
    words: list[str]
    choices: Mapping[str, Any]


def refuse(stage: str, cells: Iterable[Cell], *, sweep: bool, functions: bool = True) -> None:
    """Raise ConfigError for the first override that none of the ``cells``, one run or those of a sweep, reads.

    Without ``functions`` those that the modules of functions tell of are left out, which import PyTorch.
    """
    waiting: dict[str, str] | None = None
    for cell in cells:
        found = unread(stage, cell, functions=functions)
        waiting = found if waiting is None else {name: text for name, text in waiting.items() if name in found}
        if not waiting:
            return
    for text in (waiting or {}).values():
        raise ConfigError(text.replace(_NONE, f"{_NONE} in any run of this sweep", 1) if sweep else text)


def refuse_hydra(words: Iterable[str], *, sweep: bool) -> None:
    """Raise ConfigError for a key of Hydra's own, among ``words``, that only a sweep reads, or only a single run."""
    for given in _parsed(words):
        name = _name(given)
        if sweep and name.startswith("hydra.run."):
            use = name.replace("hydra.run.", "hydra.sweep.")
            raise ConfigError(f"{given.input_line} has no effect: this is a sweep; use {use}={_value(given)}.")
        if not sweep and name.replace("/", ".").startswith(("hydra.sweep.", "hydra.launcher", "hydra.sweeper")):
            use = f"use hydra.run.dir={_value(given)}" if name == "hydra.sweep.dir" else "leave it out"
            raise ConfigError(f"{given.input_line} has no effect: this is one run and no sweep; {use}, or add -m.")


def unread(stage: str, cell: Cell, *, functions: bool = True) -> dict[str, str]:
    """Return the overrides that the run ``cell`` does not read: their names, and a sentence for each."""
    try:
        config: Any = OmegaConf.to_container(cell.config, resolve=True)
    except OmegaConfBaseException:
        return {}  # the run says what is wrong with it
    idle, every = idle_keys(stage, config, functions=functions), leaves(config)
    found: dict[str, str] = {}
    for given in _parsed(cell.words):
        place = _place(given, cell.choices)
        own = [key for key in every if key == place or key.startswith(f"{place}.")]
        reasons = [why(key, idle) for key in own]
        if given.is_delete() or not own or None in reasons:
            continue
        if place in every and any(why(key, idle) is None for key in _followers(cell.config, place, every)):
            continue
        found[_name(given)] = _sentence(given, next(reason for reason in reasons if reason))
    return found


class BeforeSweep(Callback):
    """Checks a sweep for overrides that no cell reads, on this machine and before the first cell starts."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Print one sentence and exit with the code of a config error."""
        try:
            if not machine.rank():  # the folders of other ranks are not the user's words
                refuse_hydra(config.hydra.overrides.hydra, sweep=True)
            if _has_unknown_choice(config):
                return  # Hydra says which, before it starts the first cell
            refuse(str(config.stage), _cells(config), sweep=True, functions=False)
            _refuse_hopeless(str(config.stage), config)
            refuse(str(config.stage), _cells(config), sweep=True)
        except TltoolError as error:
            if not machine.rank():
                import sys

                print(f"tltool: {error}", file=sys.stderr)
            raise SystemExit(error.code) from error
        except HydraException:
            return  # Hydra says what is wrong when it comes to that cell


def _has_unknown_choice(config: DictConfig) -> bool:
    """Say if a word of the sweep ``config`` chooses a file that is not there."""
    if len(config.hydra.searchpath) > 1:
        return False
    tree = [*config_files.roots(), *added_folders(config.hydra)]
    for given in _parsed(config.hydra.overrides.task):
        group = given.key_or_group
        known = config_files.names(group, tree)
        if known and any(option.partition("=")[2] not in known for option in _options(given)):
            return True
    return False


def added_folders(about: HydraConf) -> list[Path]:
    """Return the folders of YAML files that the user added, with --config-dir or hydra.searchpath."""
    return [Path(source.path) for source in about.runtime.config_sources if source.schema == "file"]


def of_this_command() -> tuple[list[str], list[Path]]:
    """Return the words of the command line that Hydra started, and the folders of YAML files that it adds."""
    if not HydraConfig.initialized():
        return [], []
    about = HydraConfig.get()
    return list(about.overrides.task), added_folders(about)


def _refuse_hopeless(stage: str, config: DictConfig) -> None:
    """Raise the error of the first cell if every cell of the sweep ``config`` has one that its config shows."""
    first: TltoolError | None = None
    own = own_labels.of_folders(added_folders(config.hydra))
    for cell in _cells(config):
        try:
            plain: Any = OmegaConf.to_container(cell.config, resolve=True)
            early_checks.check(stage, own_labels.settled(plain, own, lambda text: None))
        except TltoolError as error:
            first = first or error
        except OmegaConfBaseException:
            return  # the run says what is wrong with it
        else:
            return
    if first is not None:
        raise first


def cell_of(config: DictConfig) -> Cell:
    """Return the run that Hydra is about to start with ``config``."""
    about = HydraConfig.get()
    return Cell(config, list(about.overrides.task), about.runtime.choices)


def _cells(config: DictConfig) -> Iterator[Cell]:
    """Yield the runs of the sweep ``config``, those first that differ from the first one in one key."""
    loader = GlobalHydra.instance().config_loader()
    options = [_options(given) for given in _parsed(config.hydra.overrides.task)]
    near = [
        tuple(word if k == j else of[0] for j, of in enumerate(options))
        for k, choices in enumerate(options)
        for word in choices
    ]
    for words in dict.fromkeys([*near, *product(*options)]):
        composed = loader.load_sweep_config(config, list(words))
        choices = composed.hydra.runtime.choices
        with open_dict(composed):
            del composed["hydra"]
        yield Cell(composed, list(words), choices)


def _options(given: Override) -> list[str]:
    """Return ``given`` once for each of its values, or for the first alone where the value decides nothing."""
    if not given.is_discrete_sweep():
        return [given.input_line or ""]
    key = given.get_key_element()
    values = list(given.sweep_string_iterator())
    return [f"{key}={value}" for value in (values[:1] if _name(given) in _DRAWS else values)]


def _parsed(words: Iterable[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(words))


def _name(given: Override) -> str:
    return given.get_key_element().lstrip("+~")


def _value(given: Override) -> str:
    return given.get_value_element_as_str()


def _place(given: Override, choices: Mapping[str, Any]) -> str:
    """Return the dotted name of what ``given`` sets: a key, or the node that a choice of a group fills."""
    group, _, package = _name(given).partition("@")
    return package or (group.replace("/", ".") if _name(given) in choices else group)


def _followers(config: DictConfig, place: str, every: Mapping[str, Any]) -> list[str]:
    """Return the keys that take their value from the one at ``place``: those that change with it."""
    changed = copy.deepcopy(config)
    try:
        with open_dict(changed):
            OmegaConf.update(changed, place, _OTHER)
        now = leaves(OmegaConf.to_container(changed, resolve=True))
    except OmegaConfBaseException:
        return []
    return [key for key, value in every.items() if key != place and now.get(key) != value]


def _sentence(given: Override, idle: Idle) -> str:
    instead = idle.instead.replace("{value}", _value(given))
    return f"{given.input_line}{_NONE}: {idle.why}; {instead}."
