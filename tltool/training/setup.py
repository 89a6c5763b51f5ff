"""From a stage's config to what a fit needs: data set, batches, and the fit itself."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tltool import instantiate, machine
from tltool.config_tree import place_of
from tltool.data import cheaper_level, structure_checks, union
from tltool.data.batches import batches
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset, Means
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.record import Floats, Ints
from tltool.data.splits import Split
from tltool.data.store import Store
from tltool.data.structure_checks import Checks
from tltool.errors import ConfigError, standing_at
from tltool.quantities import quantity
from tltool.run_folder.run import Run
from tltool.training import distributed
from tltool.training.backend import Backend
from tltool.training.fit import Fit, Settings

_PAY = 2
"""Threads that pay with angles; more were not measured."""
Config = Mapping[str, Any]
Say = Callable[[str], None]


def data_set(config: Config, description: Config, graph_settings: GraphSettings, say: Callable[[str], None]) -> Dataset:
    """Return the data set of a data YAML, prepared with ``graph_settings``."""
    cache, n = Path(config["cache"]).expanduser(), workers(config)
    torch.set_num_threads(threads(config["threads"], angles=graph_settings.angles))
    with distributed.first(), standing_at(place_of(description, config), "data"):
        return union.opened(description, graph_settings, Means(cache, config["plugins"], n, say, checks(config)))


def checks(config: Config) -> Checks:
    """Return what crystals are held to, and what becomes of one that fails."""
    return structure_checks.checks(config["checks"], config["limits"])


def threads(wanted: int | str, *, angles: bool) -> int:
    """Return how many CPU threads to compute with: ``auto`` for the free cores, but no more than pay.

    Without ``angles`` an operation takes less time than handing it to a second thread (docs/performance.md).
    """
    if wanted == "auto":
        return min(machine.free_cores(), _PAY if angles else 1)
    if not isinstance(wanted, int) or wanted < 1:
        raise ConfigError(f"threads={wanted!r} is not known; use auto or a number.")
    return wanted


def workers(config: Config) -> int:
    """Return how many processes prepare data: ``auto`` for as many as there are free cores."""
    wanted = config["workers"]
    if wanted == "auto":
        return machine.free_cores()
    if not isinstance(wanted, int) or wanted < 1:
        raise ConfigError(f"workers={wanted!r} is not known; use auto or a number.")
    return wanted


def split_batches(
    config: Config,
    data: Dataset,
    quantities: list[str],
    say: Callable[[str], None],
    base: Floats | None = None,
    without: Ints | None = None,
) -> tuple[Batches, Split]:
    """Return the batches of ``data`` for ``quantities``, cut as ``config['split']`` says, and that split.

    Rows without a label of any of the quantities are in no part; how many they are is said. ``base`` (n, q) is taken
    off the labels; rows ``without`` are in no part either.
    """
    if not quantities:
        key = "target.quantities" if "target" in config else "quantities"
        raise ConfigError(f"{key} is empty; name at least one, such as {key}=[e_form].")
    some = labelled(data, quantities, base)
    if unlabelled := int(np.isnan(some).sum()):
        say(f"{unlabelled:,} of {len(some):,} crystals have no label of {', '.join(quantities)} and are left out.")
    for line in _without_logarithm(data.store, quantities):
        say(line)
    if without is not None:
        some[without] = np.nan
    split = instantiate.call(config["split"], data.store, some, plugins=config["plugins"], place="split")
    return batches.batches(data, quantities, split, base), split


def _without_logarithm(records: Store, quantities: list[str]) -> list[str]:
    """Return in words how many records have no label, it being the logarithm of zero or less, and the first of them."""
    lines = []
    for name in quantities:
        plain = quantity(name).log10_of
        if plain and name not in records.labels and plain in records.labels:
            rows = np.flatnonzero(np.asarray(records.labels[plain]) <= 0)
            if len(rows):
                first = f"{records.ids[rows[0]]}, {records.labels[plain][rows[0]]:g} {quantity(plain).unit}"
                lines.append(f"  {len(rows):,} for the reason that {plain} is zero or less (first: {first})")
    return lines


def labelled(data: Dataset, quantities: list[str], base: Floats | None) -> Floats:
    """Return (n,): the labels of one quantity, of several 0 where there is any; NaN for rows without (or without base).

    One quantity's labels themselves, as folds of classes are made by them.
    """
    labels = np.stack([data.store.label(quantity(name).name) for name in quantities], axis=1)
    if base is not None:
        labels = labels - base
    return labels[:, 0] if len(quantities) == 1 else np.where(np.isfinite(labels).any(axis=1), 0.0, np.nan)


def base_labels(
    config: Config,
    description: Config | None,
    data: Dataset,
    quantities: list[str],
    graph_settings: GraphSettings,
    say: Say,
) -> Floats | None:
    """Return (n, q): what ``data``'s labels are to be differences from, as the data YAML ``description`` has it.

    None if there is no such description. How many crystals have no partner is said.
    """
    if not description:
        return None
    low = data_set(config, description, graph_settings, say).store
    found = cheaper_level.base_labels(data.store, low, quantities)
    if alone := int(np.isnan(found).all(axis=1).sum()):
        say(f"{alone:,} of {len(found):,} crystals have no {', '.join(quantities)} in {description['name']}.")
    return found


def fit(config: Config, run: Run, backend: Backend) -> Fit:
    """Return the fit of ``config``: settings, optimiser, seed, and the run as the one who hears."""
    settings = instantiate.call(config["fit"], plugins=config["plugins"], place="fit")
    if not isinstance(settings, Settings):
        raise ConfigError("fit._target_ must be tltool.training.fit.Settings.")
    optimiser = partial(_optimiser, config["optimiser"], tuple(config["plugins"]))
    together = run.company.ask if run.company else None
    return Fit(
        settings,
        optimiser,
        float(config["optimiser"]["lr"]),
        int(config["seed"]),
        run.log,
        backend=backend,
        together=together,
    )


def _optimiser(node: Config, plugins: tuple[str, ...], groups: list[dict[str, Any]]) -> Any:
    return instantiate.call(node, groups, plugins=plugins, place="optimiser")
