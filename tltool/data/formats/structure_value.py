"""Read the crystal in a cell of a table: a dict, its JSON text, CIF text or POSCAR text; or read it from three columns.

Dicts are those of pymatgen (``lattice`` and ``sites``) and of JARVIS (``lattice_mat``, ``coords``, ``elements``). The
format of a text is recognised from its content.
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
    """Return the crystal in ``value``; raise DataError naming ``where`` if there is none or it cannot be used."""
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith("{"):
            return _from_text(text, where)
        value = _json(text, where)
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: is not a structure; give a dict, JSON, CIF or POSCAR text.")
    if "lattice_mat" in value:
        return _from_jarvis(value, where)
    return from_dict(value, where)


def from_columns(lattice: Any, species: Any, frac: Any, where: str) -> Crystal:
    """Return the crystal of a lattice (3, 3) in Å, symbols or atomic numbers (n,), and fractional positions (n, 3).

    Each may be JSON text. Oxidation states are dropped. Raise DataError naming ``where`` if one cannot be used.
    """
    lattice, species, frac = (_json(v, where) if isinstance(v, str) else v for v in (lattice, species, frac))
    try:
        numbers = np.array([_number(word) for word in species], dtype=np.int64)
        found = Crystal(np.array(lattice, dtype=np.float64), np.array(frac, dtype=np.float64), numbers)
        return checked(found, where)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: lattice, species or positions have the wrong form; give (3, 3) numbers, n words and (n, 3) "
            "numbers."
        ) from error


def _from_text(text: str, where: str) -> Crystal:
    if "\n" not in text:
        raise DataError(
            f"{where}: is one line, but CIF and POSCAR texts have several; use data=folder if these are file names."
        )
    if not _CIF.search(text):
        try:
            return poscar.crystal(text, where)
        except DataError as error:
            cause = str(error).removeprefix(f"{where}: ").split(";")[0]
            raise DataError(
                f"{where}: is not a CIF (it has no data_ block) and not a POSCAR ({cause}); repair it."
            ) from error
    found = cif_file.crystals(text.encode(), where)
    if len(found) > 1:
        raise DataError(f"{where}: contains several structures; give each structure its own row.")
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
            f"{where}: cannot be read as a JARVIS structure; lattice_mat, elements or coords is missing or has the "
            "wrong form, so write it again."
        ) from error
    return from_columns(lattice, species, positions, where)


def _number(word: str | float) -> int:
    """Return the atomic number of a symbol, with or without oxidation state, or of a number; 0 if unknown."""
    return species.number(word) if isinstance(word, str) else int(word)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be read as JSON (it is damaged or incomplete); write it again.") from error
