"""What a config alone shows to be wrong, said before PyTorch is imported and anything is computed.

The code that uses a value checks it too, where that value can come from elsewhere; a test compares the words here with
those there.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from tltool.command_line import signatures
from tltool.config_tree import data_nodes, leaves, nodes
from tltool.data.formats import structure_files
from tltool.errors import ConfigError, DataError, ResourceError, nearest
from tltool.potentials import catalogue
from tltool.run_folder import owner, status
from tltool.run_folder.find import model_folder

Config = Mapping[str, Any]

WORDS = {
    "checks": ("refuse", "warn"),
    "kernels": ("auto", "compiled", "dgl", "torch", "triton"),
    "functionals": ("apart", "alike"),
    "fit.loss": ("l1", "mse", "huber"),
    "fit.schedule": ("onecycle", "cosine", "triangular", "constant"),
    "fit.select": ("best", "last"),
    "fit.scale": ("auto", "linear", "minmax", "log"),
    "fit.loss_balance": ("mean", "labels", "uncertainty"),
    "source_head": ("new", "keep"),
    "mode.head": ("new", "keep"),
}
"""Keys that take one of a few words."""

PACKAGES = {"tensorboard_files": "tensorboard", "weights_and_biases": "wandb"}
"""Module of a logger -> the package that it needs, which an extra of the same name brings."""

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


class _Range(NamedTuple):
    """What numbers a key takes: from ``least`` (or ``above``) to ``most``, whole ones only, or null as well."""

    least: float | None = None
    above: float | None = None
    most: float | None = None
    whole: bool = False
    null: bool = False

    def holds(self, value: Any) -> bool:
        """Say if ``value`` is in the range."""
        if value is None:
            return self.null
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        low = self.least is None or value >= self.least
        return low and (self.above is None or value > self.above) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        number = "a whole number" if self.whole else "a number"
        low = f" of {self.least} or more" if self.least is not None else ""
        low += f" above {self.above}" if self.above is not None else ""
        high = f" and at most {self.most}" if self.most is not None else ""
        return f"{number}{low}{high}{' or null' if self.null else ''}"


_SEED = _Range(least=0, most=2**32 - 1, whole=True)
_FRACTION = _Range(least=0, most=1)
_RANGES = {
    "seed": _SEED,
    "split.seed": _SEED,
    "fit.epochs": _Range(least=0, whole=True),
    "fit.batch_size": _Range(least=1, whole=True),
    "fit.warmup": _FRACTION,
    "fit.ema": _FRACTION,
    "fit.clip": _Range(above=0, null=True),
    "fit.patience": _Range(least=1, whole=True, null=True),
    "optimiser.lr": _Range(above=0),
    "optimiser.weight_decay": _Range(least=0),
    "split.val": _Range(least=0),
    "split.test": _Range(least=0),
    "split.train_size": _Range(least=1, whole=True, null=True),
    "batch_size": _Range(least=1, whole=True),
}


def check(stage: str, config: Config) -> None:
    """Raise the error of the first mistake that ``config``, for a run of ``stage``, shows."""
    keys = leaves(config)
    for message in (*_wrong_values(keys), *_wrong_types(config)):
        raise ConfigError(message)
    for node in (config.get("logger") or {}).values():
        _check_package(node)
    for place, node in data_nodes(config):
        _check_root(place, node)
    runs = Path(str(config["runs"]))
    given = config.get("source") if stage == "transfer" else None
    for source in given if isinstance(given, (list, tuple)) else [given]:
        if catalogue.is_one(str(source)):
            catalogue.require(str(source))
        elif source is not None and _is_path(source):
            model_folder(str(source), runs, "pretrain")
    if stage == "predict" or (stage == "eval" and config.get("model")):
        model_folder(str(config["model"]), runs, "transfer")
    if stage == "predict":
        if config.get("output"):
            _check_output(Path(str(config["output"])).expanduser())
        _check_input(Path(str(config["input"])).expanduser())


def _wrong_values(keys: Mapping[str, Any]) -> Iterator[str]:
    for key, known in WORDS.items():
        if key in keys and keys[key] not in known:
            yield f"{key}={keys[key]} is not known; use {', '.join(known[:-1])} or {known[-1]}."
    for key, allowed in _RANGES.items():
        if key in keys and not allowed.holds(keys[key]):
            yield f"{key}={_shown(keys[key])} must be {allowed}."
    if not isinstance(keys.get("dry_run", False), bool):
        yield f"dry_run={_shown(keys['dry_run'])} is not known; use true or false."
    device = str(keys.get("device", "auto"))
    if not _DEVICE.fullmatch(device):
        yield f"device={device} is not known; use auto, cpu, cuda or cuda:NUMBER."
    for key in ("threads", "workers"):
        value = keys.get(key, "auto")
        if value != "auto" and not _Range(least=1, whole=True).holds(value):
            yield f"{key}={value} is not known; use auto or a number."


def _wrong_types(config: Config) -> Iterator[str]:
    for place, node in nodes(config):
        target = str(node["_target_"])
        known = signatures.hints(target)
        for key, value in node.items():
            if wanted := signatures.misfit(target, str(key), value):
                yield f"{place}.{key}={_shown(value)} must be {wanted}."
            if known and key != "_target_" and key not in known:
                yield f"{place} takes no {key!r} ({target}).{nearest(str(key), known)}"


def refuse_folder(folder: Path, *, of_sweep: bool, of_study: bool) -> None:
    """Raise ConfigError if ``folder``, where a run is about to begin, is another run's.

    A study goes on in its own folder. A sweep that is started again takes the folders of its unfinished runs, and
    another run that of an unfinished cross-validation (it has ``folds.csv``).
    """
    if not (folder / owner.NAME).exists():
        return
    state = status.read(folder).get("state", "running")
    alive = owner.is_alive(folder)
    unfinished = state != "finished" and (of_sweep or (folder / "folds.csv").exists())
    if not alive and (of_study or unfinished):
        return
    if alive or state == "running":
        words = "is used by" if alive else "holds a run that was killed, of"
        raise ConfigError(f"The run folder {folder} {words} {owner.told(folder)}; name another with hydra.run.dir=.")
    raise ConfigError(
        f"The run folder {folder} holds a run that is {state}; name another with hydra.run.dir=, or remove that one."
    )


def not_writable(error: OSError) -> ResourceError:
    """Return the error of a run folder that could not be made."""
    return ResourceError(
        f"Cannot make the run folder {error.filename} ({error.strerror}); name a folder that can be written with runs=."
    )


def _check_package(logger: Any) -> None:
    target = str(logger.get("_target_")) if isinstance(logger, Mapping) else ""
    package = PACKAGES.get(target.rpartition(".")[0].removeprefix("tltool.loggers."))
    if package and not _is_installed(package):
        raise ConfigError(
            f"logger={package} needs a package that is not installed; run pip install 'tltool[{package}]'."
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that stands in for the package
        return package in sys.modules


def _check_root(place: str, node: Config) -> None:
    root = node.get("root")
    if root in (None, "bundled", "???"):
        return
    path = Path(str(root)).expanduser()
    if not path.exists():
        raise DataError(f"{place}.root={root} does not exist; name the folder or file that holds the data set.")


def _check_input(path: Path) -> None:
    if not path.exists():
        raise DataError(f"input={path} does not exist; name a structure file, a folder of them or a CSV of formulas.")
    structure_files.files(path)


def _check_output(path: Path) -> None:
    """Raise ResourceError if the file cannot be written, before anything is computed."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    why = "it is a folder" if path.is_dir() else "" if folder.is_dir() else f"{folder} is a file"
    if not why and not os.access(path if path.exists() else folder, os.W_OK):
        why = f"{folder} cannot be written to"
    if why:
        raise ResourceError(f"Cannot write output={path} ({why}); choose another file with output=.")


def _is_path(source: Any) -> bool:
    """Say if ``source`` names a folder, and is no word such as latest or bundled."""
    return str(source) != "latest" and not str(source).startswith("bundled")


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
