"""What tests build on: configs, batches, a short fit, an untrained model, and the same crystal written otherwise."""

import bz2
import json
import os
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf, open_dict
from pymatgen.core import Lattice, Structure

from tltool import instantiate
from tltool.command_line.overrides import Cell
from tltool.data import splits
from tltool.data.batches import batches
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.record import Crystal
from tltool.data.store import Store
from tltool.model.additive_gp import AdditiveGP
from tltool.model.property_model import PropertyModel
from tltool.quantities import described, quantity
from tltool.training.backend import CPU
from tltool.training.fit import Fit, Settings
from tltool.training.saved_model import checkpoint

ROOT = Path(__file__).parents[1]
QUOTIENT = GraphSettings(cutoff=8.0, max_neighbours=12, shells="shared", quotient=True)
FULL = GraphSettings(cutoff=8.0, max_neighbours=12, shells="shared", quotient=False)

NARROW = {"alignn": ["encoder.dim=32"]}
"""Encoders whose shipped size takes too long here, and what makes them quick without a change of depth."""


BACKEND = CPU
"""What ``a_fit`` computes with."""

Command = Callable[..., Path]
"""Runs a stage with overrides in this process, has it end with ``code`` (0), and returns its run folder."""


def config(stage: str, *overrides: str) -> dict[str, Any]:
    """Return the resolved config of ``stage``, as the command line would compose it."""
    return pickle.loads(_resolved(stage, overrides, _environment()))  # type: ignore[no-any-return]


def cell(stage: str, *words: str) -> Cell:
    """Return the run of ``stage`` that the command line would start with ``words``."""
    return pickle.loads(_cell(stage, words, _environment()))  # type: ignore[no-any-return]


def _environment() -> tuple[str | None, ...]:
    """What configs read besides YAML files, which are the same for a whole run of the tests."""
    return tuple(os.environ.get(name) for name in ("HOME", "TLTOOL_CACHE", "TLTOOL_RUN_ID"))


@cache
def _resolved(stage: str, words: tuple[str, ...], environment: tuple[str | None, ...]) -> bytes:
    composed = pickle.loads(_cell(stage, words, environment)).config
    OmegaConf.resolve(composed)
    return pickle.dumps(OmegaConf.to_container(composed))


@cache
def _cell(stage: str, words: tuple[str, ...], environment: tuple[str | None, ...]) -> bytes:
    """Compose, which takes 0.1 s, and keep it as bytes, which are read quicker than it is copied."""
    with initialize_config_module("tltool.configs", version_base="1.3"):
        composed = compose(stage, overrides=list(words), return_hydra_config=True)
        choices = composed.hydra.runtime.choices
        with open_dict(composed):
            del composed["hydra"]
        return pickle.dumps(Cell(composed, [word for word in words if not word.startswith("hydra.")], choices))


def candidates(*names: str) -> list[str]:
    """Return the words that leave ``mode=auto`` the candidates ``names``; those left out differ in numbers only."""
    every = config("transfer", "mode=auto")["mode"]["candidates"]
    assert set(names) <= set(every)
    return [f"~mode.candidates.{name}" for name in every if name not in names]


def each_choice(overrides: list[str]) -> list[list[str]]:
    """Return ``overrides`` with the first choice of each sweep, and once more for every other choice of one.

    Of numbers, which a key takes or does not take, the first and the last are enough.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    choices = [
        [f"{o.get_key_element()}={word}" for word in _told_apart([*o.sweep_string_iterator()])]
        if o.is_sweep_override()
        else [text]
        for o, text in zip(parsed, overrides, strict=True)
    ]
    first = [of[0] for of in choices]
    others = [[*first[:k], word, *first[k + 1 :]] for k, of in enumerate(choices) for word in of[1:]]
    return [first, *others]


def _told_apart(choices: list[str]) -> list[str]:
    numbers = all(word.lstrip("-").replace(".", "", 1).isdigit() for word in choices)
    return [choices[0], choices[-1]] if numbers and len(choices) > 2 else choices


def batches_of(data: Dataset, quantities: tuple[str, ...] = ("e_form",), seed: int = 0, **keys: Any) -> Batches:
    """Return the batches of a random split of ``data``."""
    labels = data.store.label(quantities[0])
    how = {"draw": None, "val": 0.1, "test": 0.1, "train_size": None} | keys
    return batches.batches(data, quantities, splits.random(data.store, labels, seed=seed, **how))


def a_fit(log: Callable[[dict[str, Any]], None] = lambda event: None, seed: int = 0, **keys: Any) -> Fit:
    """Return a short fit; ``keys`` change its settings."""
    node = config("pretrain")["fit"]
    node.pop("_target_")
    short = Settings(**node | {"epochs": 3, "batch_size": 32} | keys)
    return Fit(short, lambda groups: torch.optim.AdamW(groups, weight_decay=0.01), 0.004, seed, log, BACKEND)


@cache
def graph_settings_of(encoder: str) -> GraphSettings:
    """Return the graph settings that comes with ``configs/encoder``."""
    return GraphSettings(**config("pretrain", f"encoder={encoder}")["graph"])


def fresh_model(
    quantities: tuple[str, ...] = ("e_form",), seed: int = 0, encoder: str = "cgcnn", overrides: tuple[str, ...] = ()
) -> PropertyModel:
    """Return an untrained model of the shape of ``configs/encoder``, with random normalisation statistics."""
    node = config("pretrain", f"encoder={encoder}", *NARROW.get(encoder, []), *overrides)
    torch.manual_seed(seed)
    spec = {k: node[k] for k in ("encoder", "readout", "trunk", "head", "graph")}
    definitions = {name: described(quantity(name)) for name in quantities}
    model = checkpoint.build(spec | {"quantities": definitions, "elements": []})
    for name, buffer in model.named_buffers():
        if name.endswith((".mean", ".variance")) and name.startswith("encoder"):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model.to(torch.get_default_dtype())


def additive_gp(*overrides: str) -> AdditiveGP:
    """Return the Gaussian process of ``configs/mode/regressor``, not yet fitted."""
    node = config("transfer", "mode=features", "mode/regressor=additive_gp", *overrides)["mode"]["regressor"]
    return instantiate.call(node, place="regressor")


def dump(*names: str) -> bytes:
    """The bytes of an Alexandria dump with rock-salt entries of these ids."""
    entries = []
    for n, name in enumerate(names):
        sites = [
            {"species": [{"element": "Na", "occu": 1}], "abc": [0, 0, 0]},
            {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]},
        ]
        structure = {"lattice": {"matrix": [[0, 2.8 + n, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]}, "sites": sites}
        entries.append({"data": {"mat_id": name, "e_form": -n / 10}, "structure": structure})
    return bz2.compress(json.dumps({"entries": [*entries, {"data": {"mat_id": "bad"}, "structure": None}]}).encode())


def store_of(ids: list[str], numbers: list[list[int]] | None = None) -> Store:
    """A store of simple cubic crystals with these ids."""
    atoms = numbers or [[29]] * len(ids)
    first = np.concatenate([[0], np.cumsum([len(z) for z in atoms])])
    frac = np.zeros((first[-1], 3))
    frac[:, 0] = np.concatenate([np.arange(len(z)) / len(z) for z in atoms])
    lattice = np.broadcast_to(5 * np.eye(3), (len(ids), 3, 3))
    return Store(ids, first, np.concatenate(atoms), frac, lattice, {})


def of_space_group(name: str, lattice: Lattice, species: list[str], frac: list[Any]) -> Structure:
    """Return the structure with ``species`` at ``frac`` and wherever the space group puts them."""
    _space_group(name)
    return Structure.from_spacegroup(name, lattice, species, frac)


@cache
def _space_group(name: str) -> Any:
    """Keep the group, which pymatgen else makes anew for each structure: Fm-3m takes a second."""
    from pymatgen.symmetry.groups import SpaceGroup

    return SpaceGroup(name)


def rotated(crystal: Crystal, seed: int) -> Crystal:
    """Return ``crystal`` turned by a random rotation."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return crystal._replace(lattice=crystal.lattice @ (q * np.linalg.det(q)))


def shuffled(crystal: Crystal, seed: int) -> Crystal:
    """Return ``crystal`` with its sites in another order."""
    order = np.random.default_rng(seed).permutation(len(crystal.numbers))
    return crystal._replace(frac=crystal.frac[order], numbers=crystal.numbers[order])


def other_lattice(crystal: Crystal) -> Crystal:
    """Return ``crystal`` in another choice of lattice vectors, shifted, with coordinates outside the cell."""
    change = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])
    return crystal._replace(lattice=change @ crystal.lattice, frac=crystal.frac @ np.linalg.inv(change) + 0.37 - 1.0)


def doubled(crystal: Crystal) -> Crystal:
    """Return the 2x1x1 supercell of ``crystal``."""
    half = np.array([0.5, 1.0, 1.0])
    frac = np.concatenate([crystal.frac * half, crystal.frac * half + [0.5, 0, 0]])
    return Crystal(crystal.lattice * np.array([[2.0], [1], [1]]), frac, np.tile(crystal.numbers, 2))
