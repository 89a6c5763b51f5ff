"""Read structure files of users as (id, crystal): CIF, POSCAR, extended xyz and JSON.

``cif_file.py`` reads CIF and ``poscar.py`` reads POSCAR. ase is imported when it is needed, as its import takes
seconds. Any fault of one structure becomes a DataError that names the file; other structures can still be read.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data import structure_checks
from tltool.data.formats import decompress, poscar, species
from tltool.data.formats.cif import cif_file
from tltool.data.record import Crystal, checked
from tltool.data.structure_checks import Checks
from tltool.errors import FAULTS, DataError, said

SUFFIXES = (".cif", ".vasp", ".poscar", ".xyz", ".extxyz", ".json", ".json.gz")
"""Suffixes of structure files; files whose names start with POSCAR or CONTCAR are read as well."""

_BARE = ("POSCAR", "CONTCAR")
_MANY_COLUMNS = re.compile(r"properties\s*=\S*:\d{4}", re.IGNORECASE)
_PERIODIC = (True,)
_BOUNDS = decompress.Bounds(ratio=50)  # of JSON with structures
_Found = list[tuple[str | None, str, Crystal | DataError]]


def files(root: Path) -> list[Path]:
    """Return ``root`` itself if it is a file, or all structure files below it, sorted, without hidden files.

    Links to folders are followed; each folder is read once. Raise DataError if there is no structure file.
    """
    if root.is_file():
        return [root]
    found, seen = [], {os.path.realpath(root)}
    for folder, below, names in os.walk(root, followlinks=True):
        # Change the list in place: os.walk visits what remains in it.
        below[:] = sorted(name for name in below if name[0] != "." and _is_new(Path(folder, name), seen))
        found += [Path(folder, name) for name in names if name[0] != "." and _kind(Path(name))]
    found = sorted(path for path in found if path.is_file())
    if not found:
        raise DataError(
            f"{root}: contains no structure file; give files whose names end with one of {' '.join(SUFFIXES)} or "
            f"start with {' or '.join(_BARE)}."
        )
    return found


def _is_new(folder: Path, seen: set[str]) -> bool:
    place = os.path.realpath(folder)
    new = place not in seen
    seen.add(place)
    return new


def stem(name: str) -> str:
    """Return a file name without its structure suffix, if it has one."""
    suffix = _suffix(name)
    return name[: -len(suffix)] if suffix else name


def read(path: Path, checks: Checks | None = None) -> Iterator[tuple[str, Crystal]]:
    """Yield the id and the crystal of each structure in the file.

    The id is the file's stem if there is one structure, else the file's own ids (JSON) or ``stem-0``, ``stem-1``, ...
    Raise DataError, naming the file, at the first structure that cannot be used.
    """
    for name, crystal in attempts(path, checks):
        if isinstance(crystal, DataError):
            raise crystal
        yield name, crystal


def attempts(path: Path, checks: Checks | None = None) -> Iterator[tuple[str, Crystal | DataError]]:
    """Yield the same as ``read``, but the error instead of a crystal that cannot be used.

    The default of ``checks`` is in configs/common.yaml.
    """
    for name, where, crystal in readings(path):
        yield name, crystal if isinstance(crystal, DataError) else _accepted(crystal, where, checks)


def readings(path: Path) -> Iterator[tuple[str, str, Crystal | DataError]]:
    """Yield the id, the place and the crystal of each structure, checked only against the statements of its file."""
    try:
        found = _read(path)
    except DataError as error:
        yield stem(path.name), str(path), error
        return
    names = [name for name, _, _ in found if name]
    if len(set(names)) < len(found):
        names = [stem(path.name)] if len(found) == 1 else [f"{stem(path.name)}-{place}" for place in range(len(found))]
    yield from ((name, where, crystal) for name, (_, where, crystal) in zip(names, found, strict=True))


def _accepted(crystal: Crystal, where: str, checks: Checks | None) -> Crystal | DataError:
    try:
        return structure_checks.accepted(crystal, where, checks or structure_checks.shipped())
    except DataError as error:
        return error
    except FAULTS as error:
        return DataError(f"{where}: cannot be checked ({said(error)}); correct the structure.")


def from_dict(structure: Mapping[str, Any], where: str) -> Crystal:
    """Return the crystal of a pymatgen Structure as a dict, without pymatgen; raise DataError naming ``where``."""
    try:
        lattice = np.array(structure["lattice"]["matrix"], dtype=np.float64)
        frac = np.array([site["abc"] for site in structure["sites"]], dtype=np.float64)
        species_of = [site["species"] for site in structure["sites"]]
        full = all(len(words) == 1 and abs(words[0]["occu"] - 1) < cif_file.FULL for words in species_of)
        numbers = np.array([species.number(words[0]["element"]) for words in species_of if words], dtype=np.int64)
    except FAULTS as error:
        lacking = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else "a value has the wrong form"
        raise DataError(
            f"{where}: cannot be read as a pymatgen structure ({lacking}); it needs lattice.matrix, sites, abc, "
            "species and occu, so write the file again."
        ) from error
    if not all(structure["lattice"].get("pbc") or _PERIODIC):
        raise DataError(f"{where}: is not periodic in three directions; give a crystal with a cell.")
    if not full:
        raise DataError(f"{where}: has partly occupied sites; give an ordered structure.")
    return checked(Crystal(lattice, frac, numbers), where)


def has_suffix(name: str) -> bool:
    """Say whether ``name`` ends as a structure file does, packed or not."""
    return bool(_suffix(name))


def _suffix(name: str) -> str:
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def _kind(path: Path) -> str:
    suffix = _suffix(path.name)
    return suffix if suffix or not path.name.startswith(_BARE) else ".poscar"


def _read(path: Path) -> _Found:
    readers: dict[str, Callable[[Path], _Found]] = {
        ".cif": _cif,
        ".vasp": _poscar,
        ".poscar": _poscar,
        ".xyz": _xyz,
        ".extxyz": _xyz,
        ".json": _json,
        ".json.gz": _json,
    }
    kind = _kind(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; check the name.")
    if not kind:
        raise DataError(f"{path}: is not a structure file of a known type; use {' '.join(SUFFIXES)} or POSCAR.")
    try:
        return readers[kind](path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or 'damaged'}); check it and its permissions."
        ) from error
    except FAULTS as error:
        raise DataError(f"{path}: cannot be read ({said(error)}); write the file again.") from error


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # in a comment, since all else is ASCII


def _cif(path: Path) -> _Found:
    found = cif_file.crystals(path.read_bytes(), str(path))
    return [(None, str(path) if len(found) == 1 else f"{path}, structure {n}", part) for n, part in enumerate(found)]


def _poscar(path: Path) -> _Found:
    return [(None, str(path), poscar.crystal(_text(path), str(path)))]


def _xyz(path: Path) -> _Found:
    from ase.io import iread

    try:
        text = _text(path)
        _refuse_endless(text)
        frames = list(iread(StringIO(text), index=":", format="extxyz"))
    except Exception as error:  # it raises anything on damaged text
        raise DataError(
            f"{path}: a frame is incomplete or not in extended xyz format; each frame needs the number of atoms, a "
            "comment with the lattice, and a line for every atom with its element and position."
        ) from error
    found: _Found = []
    for frame, atoms in enumerate(frames):
        where = f"{path}, frame {frame}"
        found.append((None, where, _attempt(from_atoms, atoms, where)))
    if not found:
        raise DataError(f"{path}: contains no frame; give an extended xyz file with a crystal.")
    return found


def _refuse_endless(text: str) -> None:
    """Raise ValueError for a frame of more atoms than lines, or of a thousand columns: ase would try them all."""
    if _MANY_COLUMNS.search(text):
        raise ValueError("too many columns")
    lines, at = text.splitlines(), 0
    while at < len(lines) and (word := lines[at].strip()).isdecimal():
        if len(word) > 12 or int(word) > len(lines) - at - 2:
            raise ValueError("lines are missing")
        at += int(word) + 2


def from_atoms(atoms: Any, where: str) -> Crystal:
    """Return the crystal of an ``Atoms`` of ASE; raise DataError naming ``where`` if it is not periodic."""
    if not atoms.pbc.all():
        raise DataError(f"{where}: is not periodic in three directions; give a crystal with a cell.")
    lattice = np.array(atoms.cell.array, dtype=np.float64)
    checked(Crystal(lattice, np.zeros_like(atoms.positions), atoms.numbers), where)  # so that the cell can be inverted
    return checked(Crystal(lattice, np.linalg.solve(lattice.T, atoms.positions.T).T, atoms.numbers), where)


def _json(path: Path) -> _Found:
    try:
        with decompress.opened(path, _BOUNDS) as file:
            named = _structures(json.loads(file.read()), stem(path.name))
    except (ValueError, RecursionError) as error:  # text that is not JSON, or no UTF-8
        raise DataError(f"{path}: is not JSON or is incomplete; write or download it again.") from error
    if not named:
        raise DataError(
            f"{path}: contains no structure; give a pymatgen structure, a list of structures, {{id: structure}}, or a "
            "Matbench file."
        )
    found: _Found = []
    for place, (name, data) in enumerate(named):
        where = f"{path}, structure {name or place}" if len(named) > 1 else str(path)
        found.append((name, where, _attempt(from_dict, data, where)))
    return found


def _structures(data: Any, name: str) -> list[tuple[str | None, Any]]:
    """Return (own id or None, Structure dict) of each structure in a known layout; an empty list otherwise."""
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
    """Return the id in an entry of the Materials Project or Alexandria; None if it has none."""
    more = entry.get("data")
    names = (entry.get("material_id"), more.get("mat_id") if isinstance(more, dict) else None, entry.get("entry_id"))
    return next((name for name in names if isinstance(name, str)), None)


def _attempt(make: Callable[[Any, str], Crystal], raw: Any, where: str) -> Crystal | DataError:
    try:
        return make(raw, where)
    except DataError as error:
        return error
