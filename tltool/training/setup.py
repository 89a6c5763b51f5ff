"""Build the data set, the batches and the fit of a stage from its config."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from tltool import instantiate, machine
from tltool.config_tree import place_of
from tltool.data import cheaper_level, splits, structure_checks, union
from tltool.data.batches import batches, row_weights
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset, Means
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.record import Floats, Ints
from tltool.data.split_folds import GROUPS, Folds
from tltool.data.splits import Split
from tltool.data.store import Store
from tltool.data.structure_checks import Checks
from tltool.errors import ConfigError, standing_at
from tltool.run_folder.run import Run
from tltool.training import distributed, scaled_labels
from tltool.training.backend import Backend, leave_out_compiler
from tltool.training.fit import Fit, Settings

_PAY = 2
"""Number of threads that make graphs with angles faster; more were not measured."""
Config = Mapping[str, Any]
Say = Callable[[str], None]


def data_set(config: Config, description: Config, graph_settings: GraphSettings, say: Callable[[str], None]) -> Dataset:
    """Return the data set of a data YAML, prepared with ``graph_settings``."""
    use_threads(threads(config["threads"], angles=graph_settings.angles))
    with distributed.first(), standing_at(place_of(description, config), "data"):
        return union.opened(description, graph_settings, means(config, say))


def means(config: Config, say: Say) -> Means:
    """Return how ``config`` says to prepare a data set."""
    cache = Path(config["cache"]).expanduser()
    return Means(cache, config["plugins"], workers(config), say, checks(config))


def checks(config: Config) -> Checks:
    """Return the checks of structures, and what happens to a structure that fails."""
    return structure_checks.checks(config["checks"], config["limits"])


def threads(wanted: int | str, *, angles: bool) -> int:
    """Return the number of CPU threads; ``auto`` is the number of free cores, at most 1 (2 with ``angles``).

    Without ``angles``, a second thread costs more time than it saves (docs/performance.md).
    """
    if wanted == "auto":
        return min(machine.free_cores(), _PAY if angles else 1)
    if not isinstance(wanted, int) or wanted < 1:
        raise ConfigError(f"threads={wanted!r} is not known; use auto or a number.")
    return wanted


def use_threads(count: int) -> None:
    """Compute with ``count`` CPU threads from now on: PyTorch, NumPy, SciPy and scikit-learn.

    Left alone, the BLAS of NumPy takes a thread per core for the smallest matrix. The threads wait for each other, many
    times longer than they compute when another run has the cores.
    """
    torch.set_num_threads(count)
    threadpool_limits(count)
    # What is loaded later reads these.
    os.environ |= {"OMP_NUM_THREADS": str(count), "OPENBLAS_NUM_THREADS": str(count)}


def workers(config: Config) -> int:
    """Return the number of processes that prepare data; ``auto`` is the number of free cores."""
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
    """Return the batches of ``data`` for ``quantities``, and the split that ``config['split']`` makes.

    Arguments as in ``parted``. Raise ConfigError for a cross-validation, which has several splits.
    """
    split = parted(config, data, quantities, say, base, without)
    if isinstance(split, Folds):
        raise ConfigError("split=cv and split=loo train several models, which only tltool transfer does; use another.")
    return batches.batches(data, quantities, split, base), split


def with_group_column(config: Config) -> Config:
    """Return ``config`` with the column that ``split.group`` names among the tags that the adapter keeps.

    Groups that every data set has, and a tag that is named already, need no column.
    """
    group, target = config["split"].get("group"), config["target"]
    adapter = target["data"].get("adapter") or {}
    if "compare" not in config["split"] or group is None or group in GROUPS or "tags" not in adapter:
        return config
    tags = {group: group} | dict(adapter["tags"] or {})
    data = {**target["data"], "adapter": {**adapter, "tags": tags}}
    return {**config, "target": {**target, "data": data}}


def parted(
    config: Config,
    data: Dataset,
    quantities: list[str],
    say: Callable[[str], None],
    base: Floats | None = None,
    without: Ints | None = None,
) -> Split | Folds:
    """Return the rows of each part of ``data``, as ``config['split']`` says.

    Rows without a label for any of the quantities, and the rows ``without``, are in no part; ``say`` prints the number
    of unlabelled rows. ``base`` (n, q) is subtracted from the labels. Raise ConfigError if ``quantities`` is empty.
    """
    if not quantities:
        key = "target.quantities" if "target" in config else "quantities"
        raise ConfigError(f"{key} is empty; name at least one quantity, as in {key}=[e_form].")
    some = labelled(data, quantities, base)
    if unlabelled := int(np.isnan(some).sum()):
        say(f"{unlabelled:,} of {len(some):,} crystals have no label for {', '.join(quantities)} and are left out.")
    for line in _without_logarithm(data.store, quantities):
        say(line)
    if without is not None:
        some[without] = np.nan
    records = _with_strata(data.store, quantities)
    found: Split | Folds = instantiate.call(config["split"], records, some, plugins=config["plugins"], place="split")
    found, none = row_weights.learnt(found, records)
    if none:
        say(f"{none:,} rows have the weight zero: they are tested, and nothing learns from them.")
    if base is None and config["fit"]["scale"] == "auto" and isinstance(found, Split):
        for name in quantities:
            if scaled_labels.is_logarithmic(data.store.known.named(name), data.store.label(name)[found.train]):
                say(f"{name} is learnt as its logarithm, and reported as it is (scale; docs/quantities.md).")
            about = data.store.known.named(name)
            if about.scale == "logit":
                bounds = f"between {about.least:g} and {about.most:g}"
                say(f"{name} is learnt as its logit {bounds}, and reported as it is (scale; docs/quantities.md).")
    return found


def _with_strata(records: Store, quantities: list[str]) -> Store:
    """Return ``records`` that name the first class of ``quantities``, whose shares the parts of a split are to have."""
    first = next((name for name in quantities if records.known.named(name).is_class), None)
    return records if first is None else replace(records, attributes={**records.attributes, splits.STRATA: first})


def _without_logarithm(records: Store, quantities: list[str]) -> list[str]:
    """Return sentences with the number of records whose label would be the logarithm of zero or less, and the first."""
    lines = []
    for name in quantities:
        plain = records.known.named(name).log10_of
        if plain and name not in records.labels and plain in records.labels:
            rows = np.flatnonzero(np.asarray(records.labels[plain]) <= 0)
            if len(rows):
                first = f"{records.ids[rows[0]]}, {records.labels[plain][rows[0]]:g}{records.known[plain].in_unit}"
                lines.append(f"  {len(rows):,} of them because {plain} is zero or less (first: {first})")
    return lines


def labelled(data: Dataset, quantities: list[str], base: Floats | None) -> Floats:
    """Return (n,): the labels of one quantity; for several, 0 for rows with a label; NaN without label or base.

    The labels of one quantity are returned themselves, because stratified folds need classes.
    """
    labels = np.stack([data.store.label(name) for name in quantities], axis=1)
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
    """Return (n, q): the base values, from the data YAML ``description``, to subtract from the labels of ``data``.

    Return None without a description. ``say`` prints how many crystals have no base value.
    """
    if not description:
        return None
    if classes := [name for name in quantities if data.store.known.named(name).is_class]:
        raise ConfigError(f"{classes[0]} is a class, which has no differences to learn; leave the base out.")
    low = data_set(config, description, graph_settings, say).store
    found = cheaper_level.base_labels(data.store, low, quantities)
    if alone := int(np.isnan(found).all(axis=1).sum()):
        say(f"{alone:,} of {len(found):,} crystals have no label for {', '.join(quantities)} in {description['name']}.")
    return found


def fit(config: Config, run: Run | None, backend: Backend) -> Fit:
    """Return the fit of ``config``: settings, optimiser, seed, and the ``run`` that its events go to, if any."""
    settings = instantiate.call(config["fit"], plugins=config["plugins"], place="fit")
    if not isinstance(settings, Settings):
        raise ConfigError("fit._target_ must be tltool.training.fit.Settings.")
    optimiser = partial(_optimiser, config["optimiser"], tuple(config["plugins"]))
    together = run.company.ask if run and run.company else None
    return Fit(
        settings,
        optimiser,
        float(config["optimiser"]["lr"]),
        int(config["seed"]),
        run.log if run else _unheard,
        backend=backend,
        together=together,
    )


def _unheard(event: Config) -> None:
    """Let an event of a fit pass."""


def _optimiser(node: Config, plugins: tuple[str, ...], groups: list[dict[str, Any]]) -> Any:
    leave_out_compiler()
    return instantiate.call(node, groups, plugins=plugins, place="optimiser")
