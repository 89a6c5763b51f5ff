"""A crystal and a record, as plain values; the way in from pymatgen structures.

What a crystal may be is decided here: ordered, real elements, a cell with a volume. Files are read next door in
``structure_files.py``. Sizes: n sites.
"""

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tltool.errors import DataError

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LAST_NUMBER = 118
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Crystal(NamedTuple):
    """A periodic crystal: ``lattice`` (3, 3) rows in Å, ``frac`` (n, 3), ``numbers`` (n,) atomic numbers."""

    lattice: Floats
    frac: Floats
    numbers: Ints


class Record(NamedTuple):
    """A crystal with its ``id``, labels by quantity name (in that quantity's unit) and tags (plain words)."""

    id: str
    crystal: Crystal
    labels: Mapping[str, float]
    tags: Mapping[str, str] = _NOTHING


class Dropped(NamedTuple):
    """What an adapter yields in place of a record that it leaves out: the ``id`` and the reason, as counted."""

    id: str
    reason: str


def checked(crystal: Crystal, where: str) -> Crystal:
    """Return ``crystal`` with float64 and int64 arrays; raise DataError naming ``where`` if it is unusable."""
    lattice = np.ascontiguousarray(crystal.lattice, np.float64)
    frac = np.ascontiguousarray(crystal.frac, np.float64).reshape(-1, 3)
    numbers = np.ascontiguousarray(crystal.numbers, np.int64)
    if lattice.shape != (3, 3) or len(frac) != len(numbers) or not len(numbers):
        raise DataError(f"{where}: needs a 3x3 lattice and one position per site, at least one site.")
    if not (np.isfinite(lattice).all() and np.isfinite(frac).all()):
        raise DataError(f"{where}: the lattice or a position is not a finite number.")
    if abs(np.linalg.det(lattice)) < 1e-3:
        raise DataError(f"{where}: the cell has no volume; check the lattice vectors.")
    wrong = numbers[(numbers < 1) | (numbers > LAST_NUMBER)]
    if len(wrong):
        raise DataError(f"{where}: a site is not a real element (dummy species); remove or replace it.")
    return Crystal(lattice, frac, numbers)


def reason(error: DataError) -> str:
    """Return what is wrong without the name of the file or record, so that equal reasons can be counted."""
    return str(error).split(": ", 1)[-1].split(";")[0].split(" (")[0].rstrip(".")


def from_structure(structure: "Structure", where: str) -> Crystal:
    """Return the crystal of a pymatgen ``Structure``; disordered and dummy sites raise DataError."""
    if not structure.is_ordered:
        raise DataError(f"{where}: has partly occupied sites; give an ordered structure.")
    numbers = np.array([getattr(site.specie, "Z", 0) for site in structure], dtype=np.int64)
    return checked(Crystal(structure.lattice.matrix, structure.frac_coords, numbers), where)


def formula(numbers: Ints) -> str:
    """Return the reduced formula of ``numbers`` (n,), elements by electronegativity as pymatgen writes it."""
    from pymatgen.core.composition import Composition
    from pymatgen.core.periodic_table import Element

    values, counts = np.unique(numbers, return_counts=True)
    amounts = {Element.from_Z(int(z)).symbol: int(c) for z, c in zip(values, counts, strict=True)}
    with warnings.catch_warnings():
        # pymatgen warns that helium, neon and argon have no electronegativity to sort by.
        warnings.simplefilter("ignore", UserWarning)
        return str(Composition(amounts).reduced_formula)
