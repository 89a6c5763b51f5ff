"""Give the batches of a model what its potentials say of each crystal.

A model's ``spec`` lists its potentials, in the order of their columns. Sizes: n records, w numbers of each in all.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tltool.data.batches.batches import Batches
from tltool.data.cache import users
from tltool.data.record import Crystal, Floats
from tltool.data.store import Store
from tltool.errors import CheckpointError, InapplicableError
from tltool.potentials import catalogue, crystal_features, physics, row_cache
from tltool.potentials.potential import Potential

KEY = "potentials"
"""Of a model's spec: the potentials that its features come from."""
Say = Callable[[str], None]


def usual_cache() -> Path:
    """Return the folder of the cache that no config names, as ``configs/common.yaml`` does."""
    return Path(os.environ.get("TLTOOL_CACHE", "~/.cache/tltool")).expanduser()


def entry(name: str, potential: Potential, recipes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a model's spec says of the potential ``name`` and the ``recipes`` of ``physics`` asked of it."""
    facts = {"name": name, "version": potential.version, "digest": potential.digest[:16]}
    return facts | {"recipes": list(recipes)}


def opened(spec: Mapping[str, Any], cache: Path) -> list[Potential]:
    """Return the potentials that a model's ``spec`` names.

    Raise ConfigError if a package is missing, and CheckpointError if its weights are not those of the model.
    """
    found = []
    for one in spec.get(KEY) or ():
        users.hold(cache / "potentials")
        potential = catalogue.opened(str(one["name"]), cache)
        if potential.digest[:16] != one["digest"]:
            package = catalogue.about(str(one["name"]))["package"]
            raise CheckpointError(
                f"The model was made with the potential {one['name']} of {package} {one['version']}, and {package} "
                f"{potential.version} has other weights; run pip install '{package}=={one['version']}'."
            )
        found.append(potential)
    return found


def not_audited(spec: Mapping[str, Any]) -> list[str]:
    """Return a sentence on each potential of a model's ``spec``: of its training crystals tltool has no index."""
    return [
        f"{one['name']} was trained on {catalogue.about(str(one['name']))['trained_on']}, index not known: test "
        "crystals may be among its training crystals."
        for one in spec.get(KEY) or ()
    ]


def placed(data: Batches, records: Store, spec: Mapping[str, Any], cache: Path, say: Say) -> Batches:
    """Return ``data`` with what the potentials of ``spec`` say of the crystals in its parts (n, w), from the cache.

    Missing numbers, of other rows and of crystals that a potential cannot do, are NaN. Raise InapplicableError for
    formulas, and the errors of ``opened``.
    """
    if not spec.get(KEY):
        return data
    if data.bare:
        names = ", ".join(str(one["name"]) for one in spec[KEY])
        raise InapplicableError(f"The records are formulas, and the potential {names} needs structures; leave it out.")
    rows = np.unique(data.rows().cpu().numpy())
    parts = [
        _of_records(one, potential, records, rows.tolist(), cache, say)
        for one, potential in zip(spec[KEY], opened(spec, cache), strict=True)
    ]
    whole = np.full((len(records), sum(part.shape[1] for part in parts)), np.nan, dtype=np.float32)
    whole[rows] = np.concatenate(parts, axis=1)
    numbers = torch.from_numpy(whole).to(torch.get_default_dtype())
    return replace(data, table=replace(data.table, potential=numbers))


def _of_records(
    one: Mapping[str, Any], potential: Potential, records: Store, rows: Sequence[int], cache: Path, say: Say
) -> Floats:
    """Return what ``potential`` says of the crystals in ``rows`` (r, w), NaN where it cannot, and print the time."""
    folder = cache / "potentials" / f"{one['name']}-{one['version']}-{one['digest']}"
    crystals = {row: records.crystal(row) for row in rows}
    keys = {row: row_cache.digest(crystal) for row, crystal in crystals.items()}
    parts = []
    for recipe, width, make in _recipes(one, potential):
        place = folder / recipe
        known = row_cache.kept(place, width)
        left = {keys[row]: row for row in rows if keys[row] not in known}
        if left:
            say(f"{one['name']}: computing {recipe} of {len(left):,} crystals, once; they are kept in the cache.")
        began = time.perf_counter()
        made, failed = row_cache.computed((crystals[row] for row in left.values()), make, place)
        if left:
            each = (time.perf_counter() - began) / len(left)
            say(f"{one['name']}: {1000 * each:.0f} ms a crystal, {each * len(left):.0f} s in all.")
        if failed:
            key, why = next(iter(failed.items()))
            say(
                f"{one['name']} has no {recipe} of {len(failed):,} crystals, which get the mean of the training rows "
                f"(first: {records.ids[left[key]]}, {why})."
            )
        known |= made
        missing = np.full(width, np.nan)
        parts.append(np.stack([known.get(keys[row], missing) for row in rows]))
    return np.concatenate(parts, axis=1)


def _recipes(one: Mapping[str, Any], potential: Potential) -> list[tuple[str, int, row_cache.Row]]:
    """Return each recipe of the entry ``one``: its name, how many numbers it has, and what computes them."""
    own = ("features", crystal_features.own_width(potential.widths), partial(crystal_features.row, potential))
    return [own, *((name, physics.WIDTHS[name], partial(physics.row, name, potential)) for name in one["recipes"])]


class Rows:
    """What the potentials of a model say of single crystals; a row is kept until ``forget``.

    Raise as ``opened`` does.
    """

    def __init__(self, spec: Mapping[str, Any], cache: Path) -> None:
        self._potentials = opened(spec, cache)
        self._entries = list(spec.get(KEY) or ())
        self._kept: dict[bytes, Floats] = {}

    def forget(self) -> None:
        """Free the rows that were computed."""
        self._kept.clear()

    def of(self, crystal: Crystal) -> Floats:
        """Return the row (w,) of ``crystal``; raise ValueError, with the reason, if a potential cannot do it."""
        key = row_cache.digest(crystal)
        if key not in self._kept:
            parts = []
            for one, potential in zip(self._entries, self._potentials, strict=True):
                for recipe, _, make in _recipes(one, potential):
                    try:
                        parts.append(make(crystal))
                    except ValueError as error:
                        raise ValueError(f"the potential {one['name']} has no {recipe} of it: {error}") from error
            self._kept[key] = np.concatenate(parts)
        return self._kept[key]

    def table(self, crystals: Sequence[Crystal]) -> torch.Tensor:
        """Return the rows (c, w) of ``crystals``, as ``of`` does."""
        rows = np.stack([self.of(crystal) for crystal in crystals]).astype(np.float32)
        return torch.from_numpy(rows).to(torch.get_default_dtype())
