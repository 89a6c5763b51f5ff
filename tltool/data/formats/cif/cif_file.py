"""Read crystals from a CIF, and check each crystal against the other statements of its file.

The symmetry is expanded here, from the operations that the file lists or else from its space group. Then the crystal is
compared with the file's formula, formula units, multiplicities, density and volume, and its operations with its cell.
``structure_checks.py`` has the checks that need no file. Sizes: n sites, m operations.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tltool.data import structure_checks
from tltool.data.formats import species
from tltool.data.formats.cif import cif_symmetry, cif_text, expansion
from tltool.data.formats.cif.cif_symmetry import Symmetry
from tltool.data.formats.cif.cif_text import Block, is_given, number, plain
from tltool.data.record import Crystal, Floats, Ints, cell_volume, checked
from tltool.elements import masses, number_of, symbol
from tltool.errors import DataError

FULL = 1e-3
"""An occupancy that differs from 1 by less than this is full."""

DENSITY, VOLUME, METRIC = 0.05, 0.02, 0.01
"""Largest relative difference to the stated density and volume, and of a cell to its symmetry."""

_FULL_WORDS = {"1", "1.0", "1.00", "1.0000"}
_RATIO = 1e-3
_LENGTHS = tuple(f"_cell_length_{axis}" for axis in "abc")
_ANGLES = tuple(f"_cell_angle_{name}" for name in ("alpha", "beta", "gamma"))
_FRACT = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
_FORMULA = "_chemical_formula_sum"
_MULTIPLICITY = ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
_OF_SITE = (
    "_atom_site_label", "_atom_site_type_symbol", "_atom_site_occupancy", "_atom_site_calc_flag", *_MULTIPLICITY,
)  # fmt: skip
_HEAVY = re.compile(r"\(?[DT23](?![a-z])")  # hydrogen as D, T, 2H or (3)H
_PER_CUBIC_CENTIMETRE = 0.602214076  # u/Å3 in 1 g/cm3


class Stated(NamedTuple):
    """What a file states about its crystal in addition to cell, symmetry and sites; empty or 0 if not stated.

    ``formula`` {atomic number: amount} and its ``text``, ``units`` of it per cell (Z), ``multiplicities`` (n,) of the
    listed sites, ``density`` in g/cm3, ``volume`` in Å3.
    """

    formula: Mapping[int, float]
    text: str
    units: float
    multiplicities: Floats
    density: float
    volume: float


def crystals(data: bytes, where: str) -> list[Crystal | DataError]:
    """Return the crystal of each data block that has sites, in the order of the text, or its error.

    ``faults`` of a crystal lists its contradictions to the other statements of the file. Errors name ``where``. Raise
    DataError if no block has sites.
    """
    found = cif_text.blocks(data, where)
    return [_attempt(block, where, len(found)) for block in found]


def _attempt(block: Block | DataError, where: str, n_blocks: int) -> Crystal | DataError:
    if isinstance(block, DataError):
        return block
    try:
        return _crystal(block, where if n_blocks == 1 else f"{where}, block {block.name}")
    except DataError as error:
        return error


def _crystal(block: Block, where: str) -> Crystal:
    lattice, angles = _cell(block.values, where)
    structure_checks.require_shape(lattice, where, structure_checks.WIDEST)
    asymmetric, stated = _sites(block.values, lattice, where)
    symmetry = cif_symmetry.read(block.values, angles, where)
    results = [_expanded(asymmetric, choice, symmetry, stated, where) for choice in symmetry.choices]
    found = [crystal for crystal in results if isinstance(crystal, Crystal)]
    if not found:
        raise next(error for error in results if isinstance(error, DataError))
    if len(results) > 1:
        found = [crystal for crystal in found if not crystal.faults]
    if len(found) > 1:
        found = [
            crystal for crystal in found if not structure_checks.faults(crystal, structure_checks.shipped().limits)
        ]
    if len(found) != 1:
        raise DataError(
            f"{where}: the space group has two origin choices, and the file does not state which one it uses; "
            "add the symmetry operations."
        )
    return found[0]._replace(reader=block.reader)


def _cell(values: Mapping[str, Sequence[str]], where: str) -> tuple[Floats, list[float]]:
    """Return the lattice (3, 3) in Å and the three angles in degrees; a missing angle is 90."""
    import gemmi

    if lacking := [tag for tag in _LENGTHS if tag not in values]:
        raise DataError(f"{where}: has no {lacking[0]}; add the lengths of the cell.")
    lengths = [number(values[tag][0]) for tag in _LENGTHS]
    angles = [number(word) if is_given(word := values.get(tag, ["."])[0]) else 90.0 for tag in _ANGLES]
    for tag, length in zip(_LENGTHS, lengths, strict=True):
        if not 0 < length < np.inf:
            raise DataError(
                f"{where}: {tag} is not a positive number ({plain(values[tag][0])[:20]}); correct the cell."
            )
    for tag, angle in zip(_ANGLES, angles, strict=True):
        if not 0 < angle < 180:
            raise DataError(
                f"{where}: {tag} is not between 0 and 180 ({plain(values[tag][0])[:20]}); correct the cell."
            )
    lattice = np.array(gemmi.UnitCell(*lengths, *angles).orth.mat.tolist()).T
    if not np.isfinite(lattice).all():
        raise DataError(f"{where}: a cell with the angles {angles} is impossible; correct them.")
    return lattice, angles


def _sites(values: Mapping[str, Sequence[str]], lattice: Floats, where: str) -> tuple[Crystal, Stated]:
    """Return the occupied sites of the list, and the other statements of the file."""
    columns = [values.get(tag) for tag in _FRACT]
    if not any(columns):
        raise DataError(
            f"{where}: has only Cartesian coordinates, and a CIF does not define their axes; give fractional "
            "coordinates."
        )
    for tag, column in zip(_FRACT, columns, strict=True):
        if column is None:
            raise DataError(f"{where}: has no column {tag} with a coordinate of the sites; add it.")
    n = len(values[_FRACT[0]])
    table = {tag: list(values[tag]) for tag in (*_FRACT, *_OF_SITE) if tag in values}
    if any(len(column) != n for column in table.values()):
        raise DataError(f"{where}: the columns of the sites have different lengths; put them into one loop.")
    if gone := _left_out(table, n, where):
        table = {tag: [word for k, word in enumerate(column) if k not in gone] for tag, column in table.items()}
    frac = np.array([cif_text.column(table[tag]) for tag in _FRACT]).T.reshape(-1, 3)
    if not np.isfinite(frac).all():
        site = int(np.isfinite(frac).all(axis=1).argmin())
        words = " ".join(plain(table[tag][site]) for tag in _FRACT)
        raise DataError(
            f"{where}: the position of a site is not a finite number ({words[:40]}); complete or correct it."
        )
    text = plain(values.get(_FORMULA, [""])[0])
    formula = _formula(text)
    numbers, heavy = _elements(table, species.known(formula), len(frac), where)
    crystal = checked(Crystal(lattice, frac, numbers), where)
    multiplicities = cif_text.column(next((table[tag] for tag in _MULTIPLICITY if tag in table), []))
    density = 0.0 if heavy else _positive(values, "_exptl_crystal_density_diffrn")
    units = _positive(values, "_cell_formula_units_z")
    volume = _positive(values, "_cell_volume")
    return crystal, Stated(formula, text, units, np.array(multiplicities), density, volume)


def _left_out(table: Mapping[str, Sequence[str]], n: int, where: str) -> set[int]:
    """Return the rows that are not atoms: they are marked as dummies, or their occupancy is zero."""
    gone = {k for k, word in enumerate(table.get("_atom_site_calc_flag", ())) if word.lower() == "dum"}
    occupancies = table.get("_atom_site_occupancy", ())
    for k, word in enumerate(occupancies if set(occupancies) - _FULL_WORDS else ()):
        if k in gone or not is_given(word):
            continue
        occupancy = number(word)
        if abs(occupancy) < FULL:
            gone.add(k)
        elif not abs(occupancy - 1) <= FULL:
            raise DataError(f"{where}: has partly occupied sites; give an ordered structure.")
    if len(gone) == n:
        raise DataError(f"{where}: contains no occupied atom site; give a CIF file with a structure.")
    return gone


def _elements(table: Mapping[str, Sequence[str]], formula: frozenset[int], n: int, where: str) -> tuple[Ints, bool]:
    """Return the atomic numbers (n,), and whether a site is a heavy isotope of hydrogen."""
    types, labels = table.get("_atom_site_type_symbol", ["."] * n), table.get("_atom_site_label", ["."] * n)
    sites = [(True, kind) if is_given(kind) else (False, label) for kind, label in zip(types, labels, strict=True)]
    found = {
        (typed, raw): species.number(plain(raw)) if typed else species.of_label(plain(raw), formula)
        for typed, raw in dict.fromkeys(sites)
    }
    for word in (plain(raw) for (_, raw), z in found.items() if not z):
        if not is_given(word):
            raise DataError(f"{where}: a site has no type symbol and no label, so its element is unknown; add them.")
        if species.is_shared(word):
            raise DataError(f"{where}: a site is shared by several elements ({word[:30]}); give an ordered structure.")
        raise DataError(
            f"{where}: the element of a site is unknown ({word[:30]}); remove the site or correct its element."
        )
    heavy = any(z == 1 and _HEAVY.match(plain(raw)) for (_, raw), z in found.items())
    return np.array([found[site] for site in sites], dtype=np.int64), heavy


def _expanded(
    asymmetric: Crystal, operations: Floats, symmetry: Symmetry, stated: Stated, where: str
) -> Crystal | DataError:
    """Return all sites of the cell and their contradictions to the file; an error if two elements share a position."""
    try:
        crystal = expansion.expanded(asymmetric, operations)
    except expansion.SharedPlaceError as error:
        pair = " and ".join(symbol(z) for z in error.numbers)
        return DataError(
            f"{where}: two different elements have the same position ({pair}); give an ordered structure, or "
            "correct the symmetry."
        )
    faults, confirmed = _contradictions(crystal, stated)
    if cif_symmetry.misfit(operations, crystal.lattice) > METRIC:
        faults.append("the cell does not have the symmetry of the space group; correct the cell or add the setting")
    if symmetry.doubt and not confirmed and not _is_invariant(crystal, symmetry.named):
        faults.append(symmetry.doubt)
    return crystal._replace(faults=tuple(faults)) if faults else crystal


def _contradictions(crystal: Crystal, stated: Stated) -> tuple[list[str], bool]:
    """Return the contradictions to the file as sentences, and whether the file has a statement to compare with."""
    faults, confirmed, n = [], False, len(crystal.numbers)
    if stated.formula and not _agrees(crystal.numbers, stated.formula):
        faults.append(
            f"the sites do not have the composition of the stated formula ({stated.text}); complete the sites or "
            "correct _chemical_formula_sum"
        )
    if stated.formula and stated.units:
        total = sum(stated.formula.values())
        if not _is_count(n, total, stated.units, list(stated.formula.values())):
            faults.append(
                f"the number of sites contradicts the formula units (Z={stated.units:g} of {stated.text} are "
                f"{stated.units * total:g} sites, not {n}); correct the space group, its operations or the sites"
            )
        confirmed = True
    if len(stated.multiplicities) and np.isfinite(stated.multiplicities).all():
        if stated.multiplicities.sum() != n:
            faults.append(
                f"the number of sites contradicts the stated multiplicities (their sum is "
                f"{stated.multiplicities.sum():g}, not {n}); correct the space group or its operations"
            )
        confirmed = True
    size = cell_volume(crystal.lattice) if stated.density or stated.volume else 0.0
    if stated.density:
        density = float(masses()[crystal.numbers].sum()) / size / _PER_CUBIC_CENTIMETRE
        if abs(density / stated.density - 1) > DENSITY:
            faults.append(
                f"the density differs from the stated one ({density:.3g}, not {stated.density:.3g} g/cm3); complete "
                "the sites, or correct the symmetry"
            )
        confirmed = True
    if stated.volume and abs(size / stated.volume - 1) > VOLUME:
        faults.append(
            f"the volume of the cell differs from the stated one ({size:.5g}, not {stated.volume:.5g} Å3); correct "
            "the cell"
        )
    return faults, confirmed


def _is_count(n: int, total: float, units: float, amounts: Sequence[float]) -> bool:
    """Return whether n sites are ``units`` formula units of ``total`` atoms, or one formula of the whole cell.

    pymatgen writes the content of the cell as the formula, and the number of reduced formulas in it as Z.
    """
    whole = all(float(amount / units).is_integer() for amount in amounts)
    return abs(n - units * total) < _RATIO * n or (whole and abs(n - total) < _RATIO * n)


def _is_invariant(crystal: Crystal, operations: Floats | None) -> bool:
    """Return whether ``operations`` create no further site, so that all sites are listed."""
    if operations is None:
        return False
    try:
        return len(expansion.expanded(crystal, operations).numbers) == len(crystal.numbers)
    except expansion.SharedPlaceError:
        return False


def _positive(values: Mapping[str, Sequence[str]], tag: str) -> float:
    """Return the stated number; 0 if it is missing or not positive."""
    found = number(values[tag][0]) if tag in values else 0.0
    return found if 0 < found < np.inf else 0.0


@lru_cache(maxsize=4096)
def _formula(text: str) -> Mapping[int, float]:
    """Return the amount of each atomic number in a CIF formula such as ``'H2 O'``; empty if it cannot be read."""
    amounts: dict[int, float] = {}
    for word in text.split():
        part = re.fullmatch(r"([A-Z][a-z]?)(\d+\.?\d*)?", word)
        found = number_of(part[1]) if part else 0
        if part is None or not found:
            return {}
        amounts[found] = amounts.get(found, 0.0) + float(part[2] or 1)
    return amounts


def _agrees(numbers: Ints, formula: Mapping[int, float]) -> bool:
    """Return whether the sites have the ratio of elements of the formula."""
    found, total = Counter(numbers.tolist()), sum(formula.values())
    return all(abs(found[z] / len(numbers) - formula.get(z, 0) / total) < _RATIO for z in found.keys() | formula.keys())
