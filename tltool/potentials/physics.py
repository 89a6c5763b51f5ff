"""Physics that a potential predicts of a crystal, as numbers for a regressor.

Two recipes, each computed and cached by itself. ``mechanics``: log10 of the bulk modulus in GPa; the logarithm of
equilibrium volume by given volume, that of the root mean square force in eV/Å and of the norm of the stress in GPa, and
the pressure in GPa. ``phonons``: log10 of the largest frequency in 1/cm, and 1 for a crystal that has none, else 0.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tltool.data.record import Crystal, Floats, cell_volume
from tltool.potentials.equation_of_state import elastic
from tltool.potentials.potential import Potential
from tltool.potentials.zone_maximum import zone_maximum

BLOCKS = {
    "elastic": ("mechanics", 0, 1),
    "strain": ("mechanics", 1, 5),
    "phonons": ("phonons", 0, 2),
}
"""Block of features -> its recipe, and where it begins and ends in the row of that."""
WIDTHS = {"mechanics": 5, "phonons": 2}
"""How many numbers a recipe has."""
WORD = "physics"
"""Stands for all blocks."""
MOST_SITES = 8
"""A cell with more sites has no phonons: they would take minutes."""
_LEAST = 1.0
_FORCE, _STRESS = 1e-3, 0.1  # added before the logarithm: what is at rest has neither


def blocks_of(words: Iterable[str]) -> list[str]:
    """Return the blocks that ``words`` of ``mode.extra_features`` name."""
    found = set(words)
    return [block for block in BLOCKS if block in found or WORD in found]


def recipes(node: Any) -> list[str]:
    """Return the recipes that any ``extra_features`` in the YAML ``node`` of a mode needs."""
    words: set[str] = set()

    def look(at: Any) -> None:
        if isinstance(at, Mapping):
            words.update(str(word) for word in at.get("extra_features") or ())
            for inner in at.values():
                look(inner)

    look(node)
    return sorted({BLOCKS[block][0] for block in blocks_of(words)})


def row(recipe: str, potential: Potential, crystal: Crystal, /) -> Floats:
    """Return the numbers of ``recipe``; NaN for what is not there. Raise ValueError as ``potential`` does."""
    return _mechanics(potential, crystal) if recipe == "mechanics" else _phonons(potential, crystal)


def _mechanics(potential: Potential, crystal: Crystal) -> Floats:
    found, rest = elastic(potential, crystal), potential.mechanics(crystal)
    force = np.sqrt(np.square(rest.forces).sum(axis=1).mean())
    stress = np.linalg.norm(rest.stress)
    given = cell_volume(crystal.lattice) / len(crystal.numbers)
    return np.array(
        [
            np.log10(max(found.bulk_modulus, _LEAST)),
            np.log(found.volume / given),
            np.log(force + _FORCE),
            np.log(stress + _STRESS),
            -np.trace(rest.stress) / 3,
        ]
    )


def _phonons(potential: Potential, crystal: Crystal) -> Floats:
    if len(crystal.numbers) > MOST_SITES:
        return np.array([np.nan, 1.0])
    return np.array([np.log10(max(zone_maximum(potential, crystal), _LEAST)), 0.0])
