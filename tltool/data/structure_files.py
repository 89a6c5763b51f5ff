"""Files that users have -> (id, crystal): CIF, POSCAR, extended xyz and JSON.

CIF is read next door in ``cif.py``. pymatgen and ase are imported where they are used, as they take seconds to start.
Whatever is wrong with one structure becomes a DataError that names the file; the structures beside it stay readable.
"""

import gzip
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data import cif
from tltool.data.record import Crystal, checked, from_structure
from tltool.elements import number_of
from tltool.errors import DataError

SUFFIXES = (".cif", ".vasp", ".poscar", ".xyz", ".extxyz", ".json", ".json.gz")
"""What a structure file's name may end with; names that start with POSCAR or CONTCAR are read as well."""

_BARE = ("POSCAR", "CONTCAR")
_Found = list[tuple[str | None, Crystal | DataError]]


def files(root: Path) -> list[Path]:
    """Return ``root`` itself if it is a file, or all structure files below it, sorted; hidden files are left out.

    Raises DataError if there is none.
    """
    if root.is_file():
        return [root]
    below = (path for path in root.rglob("*") if not any(p.startswith(".") for p in path.relative_to(root).parts))
    found = sorted(path for path in below if path.is_file() and _kind(path))
    if not found:
        raise DataError(
            f"{root}: there is no structure file; accepted are {' '.join(SUFFIXES)} and names that start with "
            f"{' or '.join(_BARE)}."
        )
    return found


def stem(name: str) -> str:
    """Return a file name without its structure suffix, if it has one."""
    suffix = _suffix(name)
    return name[: -len(suffix)] if suffix else name


def read(path: Path) -> Iterator[tuple[str, Crystal]]:
    """Yield the id and the crystal of each structure in the file.

    The id is the file's stem if there is one structure, else the file's own ids (JSON) or ``stem-0``, ``stem-1``, ...
    Raises DataError, naming the file, at the first structure that cannot be used.
    """
    for name, crystal in attempts(path):
        if isinstance(crystal, DataError):
            raise crystal
        yield name, crystal


def attempts(path: Path) -> Iterator[tuple[str, Crystal | DataError]]:
    """Yield as ``read`` does, with the error in place of a crystal that cannot be used."""
    try:
        found = _read(path)
    except DataError as error:
        yield stem(path.name), error
        return
    names = [name for name, _ in found if name]
    if len(set(names)) < len(found):
        names = [stem(path.name)] if len(found) == 1 else [f"{stem(path.name)}-{place}" for place in range(len(found))]
    yield from zip(names, (crystal for _, crystal in found), strict=True)


def from_dict(structure: Mapping[str, Any], where: str) -> Crystal:
    """Return the crystal of a pymatgen Structure as a dict, without pymatgen; raise DataError naming ``where``."""
    try:
        lattice = np.array(structure["lattice"]["matrix"], dtype=np.float64)
        frac = np.array([site["abc"] for site in structure["sites"]], dtype=np.float64)
        species = [site["species"] for site in structure["sites"]]
        full = all(len(words) == 1 and abs(words[0]["occu"] - 1) < cif.FULL for words in species)
        words = [re.match(r"[A-Za-z]*", words[0]["element"]) for words in species if words]
        numbers = np.array([number_of(word[0]) for word in words if word], dtype=np.int64)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise cif.unreadable(where, "a pymatgen structure", error) from error
    if not full:
        raise DataError(f"{where}: has partly occupied sites; give an ordered structure.")
    return checked(Crystal(lattice, frac, numbers), where)


def from_poscar(text: str, where: str) -> Crystal:
    """Return the crystal of a POSCAR's text; raise DataError naming ``where``, or what pymatgen raises."""
    from pymatgen.io.vasp.inputs import BadPoscarWarning, Poscar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", BadPoscarWarning)  # without element symbols pymatgen would make some up
        return from_structure(Poscar.from_str(text, read_velocities=False).structure, where)


def _suffix(name: str) -> str:
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def _kind(path: Path) -> str:
    suffix = _suffix(path.name)
    return suffix if suffix or not path.name.startswith(_BARE) else ".poscar"


def _read(path: Path) -> _Found:
    poscar, xyz, js = ("POSCAR", _poscar), ("extended xyz", _xyz), ("JSON", _json)
    readers: dict[str, tuple[str, Callable[[Path], _Found]]] = {
        ".cif": ("CIF", _cif),
        ".vasp": poscar,
        ".poscar": poscar,
        ".xyz": xyz,
        ".extxyz": xyz,
        ".json": js,
        ".json.gz": js,
    }
    kind = _kind(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    if not kind:
        raise DataError(f"{path}: is not a known kind of structure file; accepted are {' '.join(SUFFIXES)} and POSCAR.")
    name, reader = readers[kind]
    try:
        return reader(path)
    except DataError:
        raise
    except Exception as error:  # parsers raise anything on damaged input
        raise cif.unreadable(str(path), name, error) from error


def _cif(path: Path) -> _Found:
    return [(None, crystal) for crystal in cif.crystals(path.read_bytes(), str(path))]


def _poscar(path: Path) -> _Found:
    return [(None, from_poscar(path.read_text(encoding="utf-8"), str(path)))]


def _xyz(path: Path) -> _Found:
    from ase.io import iread

    found: _Found = []
    for frame, atoms in enumerate(iread(str(path), index=":", format="extxyz")):
        where = f"{path}, frame {frame}"
        if atoms.pbc.all():
            crystal = Crystal(atoms.cell.array, atoms.cell.scaled_positions(atoms.positions), atoms.numbers)
            found.append((None, _attempt(checked, crystal, where)))
        else:
            error = DataError(f"{where}: is not periodic in three directions; give a crystal with its cell.")
            found.append((None, error))
    if not found:
        raise DataError(f"{path}: holds no frame; give an extended xyz file with a crystal in it.")
    return found


def _json(path: Path) -> _Found:
    with gzip.open(path, "rt", encoding="utf-8") if path.name.endswith(".gz") else path.open(encoding="utf-8") as file:
        named = _structures(json.load(file), stem(path.name))
    if not named:
        raise DataError(
            f"{path}: holds no structure; give a pymatgen structure, a list or {{id: structure}} of them, "
            "or a Matbench file."
        )
    found: _Found = []
    for place, (name, data) in enumerate(named):
        where = f"{path}, structure {name or place}" if len(named) > 1 else str(path)
        found.append((name, _attempt(from_dict, data, where)))
    return found


def _structures(data: Any, name: str) -> list[tuple[str | None, Any]]:
    """Return (own id or None, Structure dict) for every layout that is known; nothing if it is none of them."""
    if isinstance(data, dict) and {"index", "columns", "data"} <= data.keys():
        column = data["columns"].index("structure")
        return [(f"{name}-{i}", row[column]) for i, row in zip(data["index"], data["data"], strict=True)]
    if isinstance(data, dict) and isinstance(data.get("entries"), list):
        data = data["entries"]
    if isinstance(data, dict) and ("sites" in data or "structure" in data):
        return [(None, _inner(data))]
    if isinstance(data, dict) and all(isinstance(value, dict) for value in data.values()):
        pairs = [(key, _inner(value)) for key, value in data.items()]
        return [(key, value) for key, value in pairs] if any("sites" in value for _, value in pairs) else []
    if isinstance(data, list) and all(isinstance(value, dict) for value in data):
        return [(_own_id(value), _inner(value)) for value in data]
    return []


def _inner(data: Mapping[str, Any]) -> Any:
    return data.get("structure", data)


def _own_id(entry: Mapping[str, Any]) -> str | None:
    """Return the id that an entry of Materials Project or Alexandria carries."""
    more = entry.get("data")
    names = (entry.get("material_id"), more.get("mat_id") if isinstance(more, dict) else None, entry.get("entry_id"))
    return next((name for name in names if isinstance(name, str)), None)


def _attempt(make: Callable[[Any, str], Crystal], raw: Any, where: str) -> Crystal | DataError:
    try:
        return make(raw, where)
    except DataError as error:
        return error
