"""A structure as one value of a table -> crystal: a dict, its JSON text, CIF text, POSCAR text, or three plain columns.

Dicts are those of pymatgen (``lattice`` and ``sites``) and of JARVIS (``lattice_mat``, ``coords``, ``elements``). Text
tells by itself what it is.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tltool.data.formats import poscar, species
from tltool.data.formats.cif import cif_file
from tltool.data.formats.structure_files import from_dict
from tltool.data.record import Crystal, checked
from tltool.errors import DataError

_CIF = re.compile(r"^\s*(data_|_cell_|_atom_site_)", re.IGNORECASE | re.MULTILINE)


def crystal(value: Any, where: str) -> Crystal:
    """Return the crystal that ``value`` describes; raise DataError naming ``where`` if it is none or unusable."""
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith("{"):
            return _from_text(text, where)
        value = _json(text, where)
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: is neither a structure nor the text of one.")
    if "lattice_mat" in value:
        return _from_jarvis(value, where)
    return from_dict(value, where)


def from_columns(lattice: Any, species: Any, frac: Any, where: str) -> Crystal:
    """Return the crystal of a lattice (3, 3) in Å, the symbols or atomic numbers (n,) and positions (n, 3).

    Each may be the JSON text of it. Oxidation states are dropped. Raises DataError naming ``where``.
    """
    lattice, species, frac = (_json(v, where) if isinstance(v, str) else v for v in (lattice, species, frac))
    try:
        numbers = np.array([_number(word) for word in species], dtype=np.int64)
        found = Crystal(np.array(lattice, dtype=np.float64), np.array(frac, dtype=np.float64), numbers)
        return checked(found, where)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: cannot be read as lattice, species and positions, as one of them has another form; give "
            "(3, 3) numbers, n words and (n, 3) numbers."
        ) from error


def _from_text(text: str, where: str) -> Crystal:
    if "\n" not in text:
        raise DataError(f"{where}: is one line, but CIF and POSCAR text has several; for file names use data=folder.")
    if not _CIF.search(text):
        try:
            return poscar.crystal(text, where)
        except DataError as error:
            cause = str(error).removeprefix(f"{where}: ").split(";")[0]
            raise DataError(
                f"{where}: cannot be read as CIF, as it has no data_ block, nor as POSCAR ({cause}); repair it."
            ) from error
    found = cif_file.crystals(text.encode(), where)
    if len(found) > 1:
        raise DataError(f"{where}: holds several structures; give each a row.")
    if isinstance(found[0], DataError):
        raise found[0]
    return found[0]


def _from_jarvis(value: Mapping[str, Any], where: str) -> Crystal:
    try:
        lattice, species, positions = value["lattice_mat"], value["elements"], value["coords"]
        if value.get("cartesian"):
            positions = np.linalg.solve(
                np.array(lattice, dtype=np.float64).T, np.array(positions, dtype=np.float64).T
            ).T
    except (KeyError, TypeError, ValueError) as error:  # a cell without volume among them
        raise DataError(
            f"{where}: cannot be read as a JARVIS structure, with lattice_mat, elements and coords, as one of them is "
            "missing or has another form; write it again."
        ) from error
    return from_columns(lattice, species, positions, where)


def _number(word: str | float) -> int:
    """Return the atomic number that a symbol, with or without oxidation state, or a number stands for; 0 if none."""
    return species.number(word) if isinstance(word, str) else int(word)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where}: cannot be read as JSON, as it is damaged or ends too early; write it again."
        ) from error
