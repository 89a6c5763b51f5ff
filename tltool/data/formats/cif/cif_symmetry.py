"""Read the symmetry operations of a CIF: listed, or those of the space group that it names or numbers.

A space group that is named but not known is an error, and never P 1. The list of operations has priority over the name,
as in the CIF dictionary. If the two have different numbers of operations, another statement must confirm the list.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tltool.data.formats.cif import space_groups
from tltool.data.formats.cif.cif_text import number, plain
from tltool.data.record import Floats
from tltool.errors import DataError

_Values = Mapping[str, Sequence[str]]
_LISTS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_MAGNETIC = ("_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_centering_xyz")
_HALL = ("_space_group_name_hall", "_symmetry_space_group_name_hall")
_NAMES = (
    "_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full",
    "_space_group_name_h-m_ref", "_symmetry_space_group_name_h-m_full",
)  # fmt: skip
_NUMBERS = ("_space_group_it_number", "_symmetry_int_tables_number")
_SYSTEMS = ("_space_group_crystal_system", "_symmetry_cell_setting")
_CODE = "_space_group_it_coordinate_system_code"
_P1 = np.eye(4)[None]
_NAMES_OF_P1 = {"P 1", "P1", "1"}


class Symmetry(NamedTuple):
    """The possible sets of operations (m, 4, 4); there are two if the file does not state the origin.

    ``doubt`` is a fault of the file unless another statement of the file confirms the sites. ``named`` are the
    operations of the named group, if they contradict the list.
    """

    choices: list[Floats]
    doubt: str = ""
    named: Floats | None = None


def read(values: _Values, angles: Sequence[float], where: str) -> Symmetry:
    """Return the symmetry of a data block whose cell has these ``angles``; raise DataError naming ``where``."""
    if (
        any(tag.startswith("_space_group_ssg") for tag in values)
        or number(_first(values, ["_cell_modulation_dimension"])) > 0
    ):
        raise DataError(
            f"{where}: describes a modulated structure, whose cells differ; give a structure without modulation."
        )
    try:
        listed = _listed(values)
        if listed is None:
            return _by_group(values, angles, where)
    except space_groups.NoGroupError as error:
        raise DataError(f"{where}: {error}; complete or correct the list.") from None
    stated = _words(values, (*_HALL, *_NAMES, *_NUMBERS))
    if len(listed) == 1 and not set(stated) - _NAMES_OF_P1:  # most files that programs write
        return Symmetry([listed])
    halls = _halls(values, angles, where) if stated else None
    named = [operations for hall in halls or () if (operations := space_groups.operations(hall)) is not None]
    if named and all(len(operations) != len(listed) for operations in named):
        doubt = (
            f"the list has {len(listed)} symmetry operations, but the space group has {len(named[0])}; complete the "
            "list or correct the name"
        )
        return Symmetry([listed], doubt, named[0])
    return Symmetry([listed])


def misfit(operations: Floats, lattice: Floats) -> float:
    """Return how much ``operations`` (m, 4, 4) change the metric of ``lattice``: 0 if the cell has their symmetry.

    It is the largest change of the scalar product of two cell vectors, relative to the product of their lengths.
    """
    if len(operations) == 1:
        return 0.0
    turn, metric = operations[:, :3, :3], lattice @ lattice.T
    length = np.sqrt(np.diag(metric))
    change = np.abs(turn.transpose(0, 2, 1) @ metric @ turn - metric).max(axis=0)
    return float((change / length / length[:, None]).max())


def _listed(values: _Values) -> Floats | None:
    """Return the listed operations (m, 4, 4), without time reversal; None if there is no list."""
    for tag in _LISTS:
        if words := _words(values, [tag]):
            return space_groups.listed(words)
    turns, shifts = (tuple(_spatial(word) for word in _words(values, [tag])) for tag in _MAGNETIC)
    return space_groups.listed(space_groups.combined(turns, shifts)) if turns else None


def _spatial(word: str) -> str:
    """Return an operation without its time reversal."""
    return ",".join(word.split(",")[:3])


def _by_group(values: _Values, angles: Sequence[float], where: str) -> Symmetry:
    halls = _halls(values, angles, where)
    if halls is None:
        names = " and ".join(_words(values, (*_HALL, *_NAMES))) or "number " + " and ".join(_words(values, _NUMBERS))
        raise DataError(f"{where}: the space group is not known ({names[:60]}); add the symmetry operations.")
    if halls:
        choices = [operations for hall in halls if (operations := space_groups.operations(hall)) is not None]
        return Symmetry(choices)
    if any(tag.startswith("_space_group_magn") for tag in values):
        raise DataError(f"{where}: has a magnetic space group without its operations; add them.")
    system = _first(values, _SYSTEMS).lower()
    if system in ("", "triclinic", "?", "."):
        return Symmetry([_P1])
    return Symmetry(
        [_P1], f"the cell is {system}, but the file has no space group and no symmetry operations; add them"
    )


def _halls(values: _Values, angles: Sequence[float], where: str) -> list[str] | None:
    """Return the Hall symbols of the group; there are two if the file does not state the origin.

    The list is empty if the file names no group. Return None if the group is not known. Raise DataError if names or
    numbers contradict each other.
    """
    found: list[str] | None = []
    for word in _words(values, _HALL):
        found = [word] if space_groups.operations(word) is not None else None
    code = _first(values, [_CODE]).upper()
    settings = []
    for word in _words(values, _NAMES):
        full = f"{word} :{code}" if code in ("1", "2", "H", "R") and ":" not in word else word
        settings.append(space_groups.named(full, angles) or space_groups.named(word, angles))
    understood = [halls for halls in settings if halls]
    if not found and settings:
        found = understood[0] if understood else None
    stated = [int(n) if (n := number(word)) == n and abs(n) < 1000 else 0 for word in _words(values, _NUMBERS)]
    if found == [] and stated:
        found = space_groups.numbered(stated[0], angles)
    numbers = {space_groups.number_of(halls[0]) for halls in [found or [], *understood] if halls}
    numbers = (numbers | set(stated)) - {0}
    if found and len(numbers) > 1:
        several = " and ".join(map(str, sorted(numbers)))
        raise DataError(f"{where}: names different space groups (numbers {several}); correct them.")
    return found


def _words(values: _Values, tags: Iterable[str]) -> tuple[str, ...]:
    """Return the values of ``tags``, without placeholders for unknown values."""
    words = (plain(word) for tag in tags for word in values.get(tag, ()))
    return tuple(word for word in words if word.strip().lower() not in space_groups.UNKNOWN)


def _first(values: _Values, tags: Iterable[str]) -> str:
    return next(iter(_words(values, tags)), "")
