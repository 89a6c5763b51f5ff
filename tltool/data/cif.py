"""CIF text -> crystals: gemmi reads, pymatgen gives a second opinion where gemmi cannot settle a block.

Gemmi makes it five to eight times faster; the symmetry is expanded here, from the operations that the file lists or,
failing that, from its space group. Every crystal is held against the formula that the file states, so that a
truncated list of sites, a wrong origin or missing hydrogens end in an error and not in another crystal.
Sizes: n sites, m operations.
"""

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tltool.data.record import Crystal, Floats, Ints, checked, from_structure
from tltool.errors import DataError

if TYPE_CHECKING:
    import gemmi

SAME_SITE = 0.1
"""Images of a site, or listed sites, nearer than this (Å) are one site: what rounded coordinates can amount to."""

FULL = 1e-3
"""An occupancy that differs from 1 by less than this is full."""

_RATIO = 1e-3
_FORMULA_TAG = re.compile(r"""^_chemical_formula_sum\s+('[^']*'|"[^"]*"|\S+)""", re.IGNORECASE | re.MULTILINE)
_COORDINATE_TAGS = ("_atom_site_fract_x", "_atom_site_Cartn_x")


class _UnsettledError(Exception):
    """Gemmi's reading is incomplete or contradicts the file."""


def crystals(data: bytes, where: str) -> list[Crystal | DataError]:
    """Return the crystal of each data block that has sites, in the order of the text, or what is wrong with it.

    Errors name ``where``. Raises DataError if no block has sites.
    """
    import gemmi

    try:
        # Level 0: two blocks of one name are two crystals, not a mistake.
        blocks = [b for b in gemmi.cif.read_string(data, 0) if any(len(b.find_values(t)) for t in _COORDINATE_TAGS)]
        found = [_attempt(b, b.as_string(), _named(where, b.name, len(blocks))) for b in blocks]
    except (ValueError, RuntimeError):
        texts = re.split(r"(?im)^(?=data_)", data.decode("utf-8", "replace"))[1:]
        texts = [text for text in texts if "_atom_site_" in text.lower()]
        found = [_attempt(None, text, _named(where, text.split()[0][5:], len(texts))) for text in texts]
    if not found:
        raise DataError(f"{where}: holds no atom sites; give a CIF file with a structure in it.")
    return found


def _named(where: str, block: str, n_blocks: int) -> str:
    return where if n_blocks == 1 else f"{where}, block {block}"


def _attempt(block: "gemmi.cif.Block | None", text: str, where: str) -> Crystal | DataError:
    stated = _FORMULA_TAG.search(text)
    formula = _formula(stated[1]) if stated else {}
    try:
        if block is not None:
            try:
                return _by_gemmi(block, formula, where)
            except (_UnsettledError, ValueError, RuntimeError):
                pass
        crystal = _by_pymatgen(text, where)
    except DataError as error:
        return error
    except Exception as error:  # pymatgen raises anything on damaged text, ZeroDivisionError included
        return unreadable(where, "CIF", error)
    if stated and not _agrees(crystal.numbers, formula):
        return DataError(
            f"{where}: the sites do not add up to the stated formula ({stated[1]}); "
            "complete the sites or correct _chemical_formula_sum."
        )
    return crystal


def unreadable(where: str, kind: str, error: Exception) -> DataError:
    """Return the error that says that ``where`` is not a file of this ``kind``, with the cause."""
    cause = " ".join(str(error).split())[:150]
    return DataError(f"{where}: cannot be read as {kind} ({type(error).__name__}: {cause}); repair or remove it.")


def _by_gemmi(block: "gemmi.cif.Block", formula: Mapping[int, float], where: str) -> Crystal:
    import gemmi

    small = gemmi.make_small_structure_from_block(block)
    if not small.cell.is_crystal() or not len(small.sites):
        raise _UnsettledError
    if any(abs(site.occ - 1) > FULL for site in small.sites):
        raise DataError(f"{where}: has partly occupied sites; give an ordered structure.")
    # Gemmi knows D, but not T.
    numbers = np.array([1 if s.type_symbol == "T" else s.element.atomic_number for s in small.sites], dtype=np.int64)
    if formula and not numbers.all():
        raise _UnsettledError  # a label such as OW1 may still be read, and the formula tells whether it was
    lattice = np.array(small.cell.orth.mat.tolist()).T
    asymmetric = checked(Crystal(lattice, np.array([s.fract.tolist() for s in small.sites]), numbers), where)
    choices = [_expanded(asymmetric, operations) for operations in _operations(small)]
    choices = [crystal for crystal in choices if _agrees(crystal.numbers, formula)]
    if len(choices) > 1:
        n_sites = _stated_sizes(block, formula)
        choices = [crystal for crystal in choices if len(crystal.numbers) in n_sites]
        if len(choices) != 1:
            raise DataError(
                f"{where}: its space group can have two origins and the file does not say which; "
                "add the symmetry operations."
            )
    if not choices:
        raise _UnsettledError
    return choices[0]


def _operations(small: "gemmi.SmallStructure") -> list[Floats]:
    """Return the operations (m, 4, 4) of the space group, twice where the file leaves the choice of origin open."""
    import gemmi

    if small.symops:
        return [np.array([gemmi.Op(text).float_seitz() for text in small.symops])]
    if small.spacegroup_hall:
        return [np.array([op.float_seitz() for op in gemmi.symops_from_hall(small.spacegroup_hall)])]
    name = small.spacegroup_hm
    if not name and small.spacegroup_number:
        name = gemmi.find_spacegroup_by_number(small.spacegroup_number).hm
    if not name:
        return [np.eye(4)[None]]
    cell = small.cell
    groups = {}
    for origin in "12":
        group = gemmi.find_spacegroup_by_name(name, cell.alpha, cell.gamma, prefer=origin)
        if group is None:
            raise _UnsettledError
        groups[group.xhm()] = group
    return [np.array([op.float_seitz() for op in group.operations()]) for group in groups.values()]


def _expanded(crystal: Crystal, operations: Floats) -> Crystal:
    """Return ``crystal`` with all images of its sites under ``operations`` (m, 4, 4), each once."""
    if len(operations) == 1 and (operations[0] == np.eye(4)).all():
        offset = crystal.frac[:, None] - crystal.frac
        if (_length(offset, crystal.lattice) >= SAME_SITE).sum() == len(offset) * (len(offset) - 1):
            return crystal._replace(frac=crystal.frac % 1.0)  # most files spell every site out
    turn, shift = operations[:, :3, :3], operations[:, :3, 3]
    frac = np.empty((len(crystal.numbers) * len(operations), 3))
    numbers = np.empty(len(frac), dtype=np.int64)
    n = 0
    for position, number in zip(crystal.frac, crystal.numbers, strict=True):
        images = turn @ position + shift
        if len(images) > 1:
            offset = images - position
            offset -= np.round(offset)
            fixing = _length(offset, crystal.lattice) < SAME_SITE
            # The mean puts 0.3333 on 1/3: a rounded special position is made exact, and its images fall together.
            images = turn @ (position + offset[fixing].mean(axis=0)) + shift
            same = _length(images[:, None] - images, crystal.lattice) < SAME_SITE
            images = images[same.argmax(axis=1) == np.arange(len(images))]
        taken = numbers[:n][_length(frac[:n] - images[0], crystal.lattice) < SAME_SITE]
        if len(taken) and (taken != number).any():
            raise _UnsettledError
        if not len(taken):
            frac[n : n + len(images)], numbers[n : n + len(images)] = images % 1.0, number
            n += len(images)
    return Crystal(crystal.lattice, frac[:n], numbers[:n])


def _length(offset: Floats, lattice: Floats) -> Floats:
    """Return the length (...) in Å of fractional offsets (..., 3), each to its nearest image."""
    vector = (offset - np.round(offset)) @ lattice
    length: Floats = np.sqrt((vector * vector).sum(axis=-1))
    return length


def _formula(text: str) -> dict[int, float]:
    """Return the amount of each atomic number in a CIF formula such as ``'H2 O'``; empty if it cannot be read."""
    from gemmi import Element

    amounts: dict[int, float] = {}
    for word in text.strip("'\" ").split():
        part = re.fullmatch(r"([A-Z][a-z]?)(\d+\.?\d*)?", word)
        number = 0 if part is None else 1 if part[1] == "T" else Element(part[1]).atomic_number
        if part is None or not number:
            return {}
        amounts[number] = amounts.get(number, 0.0) + float(part[2] or 1)
    return amounts


def _agrees(numbers: Ints, formula: Mapping[int, float]) -> bool:
    """Say whether the sites have the ratio of elements that the formula states, if it states one."""
    found, total = Counter(numbers.tolist()), sum(formula.values())
    return not formula or all(
        abs(found[z] / len(numbers) - formula.get(z, 0) / total) < _RATIO for z in found.keys() | formula.keys()
    )


def _stated_sizes(block: "gemmi.cif.Block", formula: Mapping[int, float]) -> set[float]:
    """Return the numbers of sites per cell that the file's multiplicities, or formula and Z, allow."""
    try:
        multiplicities = [int(word) for word in block.find_values("_atom_site_symmetry_multiplicity")]
        # The formula stands for one of Z units as the standard has it, or for the whole cell as pymatgen writes it.
        units = {1, int(block.find_value("_cell_formula_units_Z") or 0)}
    except ValueError:
        return set()
    return {sum(multiplicities)} if multiplicities else {sum(formula.values()) * z for z in units}


def _by_pymatgen(text: str, where: str) -> Crystal:
    from pymatgen.io.cif import CifParser

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its remarks on rounding and symmetry; what matters is checked here
        parser = CifParser.from_str(text)
        crystal = from_structure(parser.parse_structures(primitive=False, on_error="raise")[0], where)
    for site, position in enumerate(crystal.frac):
        if (_length(crystal.frac[:site] - position, crystal.lattice) < SAME_SITE).any():
            raise DataError(f"{where}: two sites are less than {SAME_SITE} Å apart; check its symmetry operations.")
    return crystal
