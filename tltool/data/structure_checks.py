"""Check whether a cell and its sites can be a crystal, independently of the file format.

A cell in which no search for neighbours would end is always left out. For other failed checks, including a reader's own
checks of its file, the key ``checks`` decides: leave the crystal out, or keep it with a mark. Sizes: n sites.
"""

import math
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from tltool import elements
from tltool.data.graph import neighbours
from tltool.data.record import Crystal, Floats, Ints, cell_volume
from tltool.errors import ConfigError, DataError, nearest

REFUSE, WARN = "refuse", "warn"
_DENSE = 100
_SPHERE = 4 / 3 * math.pi


class Limits(NamedTuple):
    """Limits for a crystal; ``limits`` in configs/common.yaml explains each, with its unit."""

    longest_edge: float
    flattest: float
    nearest: float
    radii: float
    densest: float
    emptiest: float


WIDEST = Limits(longest_edge=1e5, flattest=0.01, nearest=0.0, radii=0.0, densest=0.0, emptiest=math.inf)
"""Limits within which a search for neighbours ends; all readers apply them."""


class Checks(NamedTuple):
    """The limits, and the action for a crystal that fails one: ``refuse`` or ``warn``."""

    failed: str
    limits: Limits


def checks(failed: Any, limits: Mapping[str, Any]) -> Checks:
    """Return the keys ``checks`` and ``limits`` of a config as one value; raise ConfigError for invalid values."""
    if failed not in (REFUSE, WARN):
        raise ConfigError(f"checks={failed} must be {REFUSE} or {WARN}.")
    for key, value in limits.items():
        if key not in Limits._fields:
            raise ConfigError(f"limits has no key {key!r}.{nearest(key, Limits._fields)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ConfigError(f"limits.{key}={value} must be a number of zero or more.")
    if missing := [key for key in Limits._fields if key not in limits]:
        raise ConfigError(f"limits lacks {', '.join(missing)}; take them from configs/common.yaml.")
    return Checks(str(failed), Limits(**{key: float(value) for key, value in limits.items()}))


@cache
def shipped() -> Checks:
    """Return the checks of configs/common.yaml."""
    import yaml

    config = yaml.safe_load(files("tltool.configs").joinpath("common.yaml").read_text(encoding="utf-8"))
    return checks(config["checks"], config["limits"])


def accepted(crystal: Crystal, where: str, checks: Checks) -> Crystal:
    """Return ``crystal`` with the failed checks in ``faults``; raise DataError naming ``where`` if it must be left out.

    A formula is returned unchanged.
    """
    if crystal.amounts is not None:
        return crystal
    require_shape(crystal.lattice, where, checks.limits)
    found = (*crystal.faults, *faults(crystal, checks.limits))
    if not found:
        return crystal
    if checks.failed == REFUSE:
        raise DataError(f"{where}: {found[0]}.")
    return crystal._replace(faults=tuple(dict.fromkeys(fault.split(";")[0] for fault in found)))


def require_shape(lattice: Floats, where: str, limits: Limits) -> None:
    """Raise DataError naming ``where`` if the cell is too long or too flat for a crystal."""
    longest, heights = _longest(lattice), _heights(lattice)
    if not longest <= limits.longest_edge:
        raise DataError(
            f"{where}: the cell is too long for a crystal (an edge of {longest:,.4g} Å, limit {limits.longest_edge:,g} "
            "Å); check the lengths of the cell."
        )
    if not min(heights) > limits.flattest:
        raise DataError(
            f"{where}: the cell is too flat for a crystal ({min(heights):.2g} Å between two faces, limit "
            f"{limits.flattest:g} Å); check its lengths and angles, or choose a less skewed cell."
        )


def _longest(lattice: Floats) -> float:
    a, b, c = lattice.tolist()
    return max(math.hypot(*a), math.hypot(*b), math.hypot(*c))


def _heights(lattice: Floats) -> tuple[float, float, float]:
    """Return the distances in Å between opposite faces, across which the first, second and third vector lead."""
    # Written out: numpy is ten times slower for three vectors, and this runs for every crystal.
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = lattice.tolist()
    ux, uy, uz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
    volume = abs(ax * ux + ay * uy + az * uz)
    first = math.hypot(ux, uy, uz)
    second = math.hypot(cy * az - cz * ay, cz * ax - cx * az, cx * ay - cy * ax)
    third = math.hypot(ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
    return volume / (first or math.inf), volume / (second or math.inf), volume / (third or math.inf)


def faults(crystal: Crystal, limits: Limits) -> list[str]:
    """Return sentences for the limits of volume and distance that the crystal breaks."""
    found = []
    n, volume = len(crystal.numbers), cell_volume(crystal.lattice)
    radius = elements.covalent_radii()[crystal.numbers]
    least = limits.densest * _SPHERE * float((radius * radius) @ radius)
    if volume < least:
        found.append(
            f"the atoms have too little room ({volume / n:.3g} Å3 per atom, at least {least / n:.3g} for these "
            "elements); check the unit of the cell and its symmetry"
        )
    elif volume > limits.emptiest * n:
        found.append(
            f"the cell is too large for its atoms ({volume / n:,.4g} Å3 per atom, limit {limits.emptiest:,g}); check "
            "its lengths"
        )
    reach = max(limits.nearest, 2 * limits.radii * float(radius.max()))
    site, other, distance = near_pairs(crystal, reach)
    if len(site):
        limit = np.maximum(limits.nearest, limits.radii * (radius[site] + radius[other]))
        worst = int((distance - limit).argmin())
        if distance[worst] < limit[worst]:
            pair = " and ".join(elements.symbol(int(crystal.numbers[row[worst]])) for row in (site, other))
            found.append(
                f"two sites are too close ({pair} {distance[worst]:.2f} Å apart, limit {limit[worst]:.2f} Å); check "
                "the cell, the positions and the symmetry"
            )
    return found


def near_pairs(crystal: Crystal, reach: float) -> tuple[Ints, Ints, Floats]:
    """Return pairs (p,), (p,) of sites with images closer than ``reach`` Å, and their distances (p,) in Å.

    Each pair occurs once for every image. A site and its own image are a pair too.
    """
    n, heights = len(crystal.numbers), _heights(crystal.lattice)
    if n > _DENSE or min(heights) <= reach:
        site, other, distance = neighbours.pairs(crystal, reach)
        once = site <= other
        return site[once], other[once], distance[once]
    # No site is that near to an image of its own now. Each coordinate of the offset to a near image is the one of at
    # most a half, or, across faces closer than twice the reach, the one on the other side.
    first, second = _all_pairs(n)
    offset = crystal.frac[second] - crystal.frac[first]
    offset -= np.rint(offset)
    which = None
    for axis, height in enumerate(heights):
        if height < 2 * reach:
            far = np.flatnonzero(np.abs(offset[:, axis]) > 1 - reach / height)
            if len(far):
                across = offset[far]
                across[:, axis] -= np.copysign(1.0, across[:, axis])
                offset = np.concatenate([offset, across])
                which = np.arange(len(first)) if which is None else which
                which = np.concatenate([which, which[far]])
    vector = offset @ crystal.lattice
    square = np.einsum("ij,ij->i", vector, vector)
    near = np.flatnonzero(square < reach * reach)
    pairs = near if which is None else which[near]
    return first[pairs], second[pairs], np.sqrt(square[near])


@lru_cache(maxsize=_DENSE + 1)
def _all_pairs(n: int) -> tuple[Ints, Ints]:
    return np.triu_indices(n, 1)
