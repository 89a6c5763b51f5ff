"""Crystals from what a Python user has at hand: structures of pymatgen, atoms of ASE, files, formulas, dictionaries."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tltool.data import structure_checks
from tltool.data.formats import formulas, structure_files, structure_value
from tltool.data.record import Crystal, from_structure
from tltool.data.structure_checks import Checks
from tltool.errors import DataError


def attempts(objects: Iterable[Any], checks: Checks | None = None) -> Iterator[tuple[str, Crystal | DataError]]:
    """Yield for each of ``objects`` its number from 0 and its crystal, or the error in its place.

    An object is what ``crystal`` takes. ``checks`` are those that a crystal must pass, by default the shipped ones.
    Raises DataError if ``objects`` is a single one.
    """
    if isinstance(objects, (str, os.PathLike, Mapping)) or _is_structure(objects) or _is_atoms(objects):
        raise DataError("Give a list of structures, not a single one; put it into brackets.")
    for number, found in enumerate(objects):
        try:
            yield str(number), crystal(found, f"structure {number}", checks)
        except DataError as error:
            yield str(number), error


def crystal(found: Any, where: str, checks: Checks | None = None) -> Crystal:
    """Return the crystal of one object; raise DataError naming ``where`` if it is none or fails ``checks``.

    The object is a ``Structure`` of pymatgen, an ``Atoms`` of ASE, a ``Crystal``, the path of a file with one
    structure, a formula such as ``"NaCl"``, or a dictionary as pymatgen or JARVIS write it. A text is the path of a
    file where there is such a file, or where it has a folder or the suffix of a structure file; else a formula.
    """
    limits = checks or structure_checks.shipped()
    if isinstance(found, (str, os.PathLike)):
        if isinstance(found, str) and not _names_a_file(found):
            return formulas.composition(found, where)
        return _of_file(Path(found).expanduser(), where, limits)
    return structure_checks.accepted(_in_memory(found, where), where, limits)


def _in_memory(found: Any, where: str) -> Crystal:
    if isinstance(found, Crystal):
        return found
    if _is_structure(found):
        return from_structure(found, where)
    if _is_atoms(found):
        return structure_files.from_atoms(found, where)
    if isinstance(found, Mapping):
        return structure_value.crystal(found, where)
    raise DataError(
        f"{where}: is a {type(found).__name__}; give a pymatgen Structure, ASE Atoms, the path of a file, a formula or "
        "a dictionary."
    )


def _is_structure(found: Any) -> bool:
    return hasattr(found, "lattice") and hasattr(found, "frac_coords") and hasattr(found, "is_ordered")


def _is_atoms(found: Any) -> bool:
    return hasattr(found, "pbc") and hasattr(found, "cell") and hasattr(found, "positions")


def _names_a_file(text: str) -> bool:
    path = Path(text).expanduser()
    return len(path.parts) > 1 or structure_files.has_suffix(path.name) or path.is_file()


def _of_file(path: Path, where: str, checks: Checks) -> Crystal:
    if not path.is_file():
        raise DataError(f"{where}: there is no file {path}; correct the path.")
    read = list(structure_files.attempts(path, checks))
    if len(read) != 1:
        raise DataError(f"{where}: {path} contains {len(read):,} structures; give each as an object of its own.")
    if isinstance(read[0][1], DataError):
        raise read[0][1]
    return read[0][1]
