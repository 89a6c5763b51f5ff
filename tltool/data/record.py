"""A crystal and a record as plain values, and the conversion from pymatgen structures.

This module defines a valid crystal: ordered, real elements, a cell with a volume; or only a formula, as ``formulas.py``
reads it. ``formats/structure_files.py`` reads files. Sizes: n sites.
"""

import math
import warnings
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.elements import symbol
from tltool.errors import DataError

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LAST_NUMBER = 118
_LARGEST = 10_000
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Crystal(NamedTuple):
    """A periodic crystal: ``lattice`` (3, 3) rows in Å, ``frac`` (n, 3), ``numbers`` (n,) atomic numbers.

    If only a formula is known, ``numbers`` are its n elements, each once, ``amounts`` (n,) the number of atoms of each,
    and lattice and positions are NaN. ``amounts`` is None for a crystal. ``faults`` describes the checks that the
    crystal failed. ``reader`` is the parser that read it, if that is not the usual one.
    """

    lattice: Floats
    frac: Floats
    numbers: Ints
    amounts: Floats | None = None
    faults: tuple[str, ...] = ()
    reader: str = ""


class Record(NamedTuple):
    """A crystal with its ``id``, labels by quantity name (in the unit of the quantity) and tags (plain words)."""

    id: str
    crystal: Crystal
    labels: Mapping[str, float]
    tags: Mapping[str, str] = _NOTHING


class Dropped(NamedTuple):
    """A record that an adapter leaves out: its ``id`` and the reason, by which it is counted.

    ``detail`` may say where the record is and what it contains; it is shown for the first record of each reason.
    """

    id: str
    reason: str
    detail: str = ""


def checked(crystal: Crystal, where: str) -> Crystal:
    """Return ``crystal`` with float64 and int64 arrays; raise DataError naming ``where`` if it is unusable."""
    lattice = np.ascontiguousarray(crystal.lattice, np.float64)
    frac = np.ascontiguousarray(crystal.frac, np.float64).reshape(-1, 3)
    numbers = np.ascontiguousarray(crystal.numbers, np.int64)
    if lattice.shape != (3, 3) or len(frac) != len(numbers) or not len(numbers):
        raise DataError(f"{where}: needs a 3x3 lattice and one position per site, at least one site.")
    if not (np.isfinite(lattice).all() and np.isfinite(frac).all()):
        raise DataError(f"{where}: the lattice or a position is not a finite number.")
    if cell_volume(lattice) < 1e-3:
        raise DataError(f"{where}: the volume of the cell is zero; check the lattice vectors.")
    if numbers.min() < 1 or numbers.max() > LAST_NUMBER:
        raise DataError(f"{where}: a site is not a real element (dummy species); remove or replace it.")
    return crystal._replace(lattice=lattice, frac=frac, numbers=numbers)


def cell_volume(lattice: Floats) -> float:
    """Return the volume in Å3 of the cell with these rows (3, 3), right-handed or left-handed."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = lattice.tolist()
    return float(abs(ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)))


def reason(error: DataError) -> str:
    """Return the fault without the name of the file or record, so that equal reasons can be counted."""
    return str(error).split(": ", 1)[-1].split(";")[0].split(" (")[0].rstrip(".")


def from_structure(structure: "Structure", where: str) -> Crystal:
    """Return the crystal of a pymatgen ``Structure``; disordered and dummy sites raise DataError."""
    if not structure.is_ordered:
        raise DataError(f"{where}: has partly occupied sites; give an ordered structure.")
    numbers = np.array([getattr(site.specie, "Z", 0) for site in structure], dtype=np.int64)
    return checked(Crystal(structure.lattice.matrix, structure.frac_coords, numbers), where)


def reduced(numbers: Ints, amounts: Floats | None = None) -> dict[int, int] | dict[int, float]:
    """Return {atomic number: amount}, ascending, of sites ``numbers`` (n,) with ``amounts`` (n,), or one atom each.

    Amounts are the smallest whole numbers. If that needs an amount above 10,000, they are atomic fractions with six
    digits.
    """
    values, place = np.unique(numbers, return_inverse=True)
    counts = np.bincount(place, amounts)
    if amounts is not None:
        ratios = [Fraction(float(count / counts.min())).limit_denominator(_LARGEST) for count in counts]
        common = math.lcm(*(ratio.denominator for ratio in ratios))
        whole = np.array([float(ratio * common) for ratio in ratios])
        if whole.max() > _LARGEST or not np.allclose(whole / whole.sum(), counts / counts.sum(), rtol=1e-6, atol=0):
            return {int(z): round(float(part), 6) for z, part in zip(values, counts / counts.sum(), strict=True)}
        counts = whole.astype(np.int64)
    divisor = math.gcd(*counts.tolist())
    return {int(z): int(n) // divisor for z, n in zip(values, counts, strict=True)}


def formula(numbers: Ints, amounts: Floats | None = None) -> str:
    """Return the formula of the result of ``reduced``, with elements by electronegativity as pymatgen writes it."""
    from pymatgen.core.composition import Composition

    found = reduced(numbers, amounts)
    with warnings.catch_warnings():
        # pymatgen warns that helium, neon and argon have no electronegativity to sort by.
        warnings.simplefilter("ignore", UserWarning)
        made = Composition({symbol(z): n for z, n in found.items()})
        whole = all(isinstance(n, int) for n in found.values())
        return str(made.reduced_formula) if whole else str(made.formula).replace(" ", "")
