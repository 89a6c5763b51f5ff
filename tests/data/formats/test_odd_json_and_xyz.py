"""JSON and extended xyz that programs and people really write: the right crystal, or a sentence why not."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from odd_structures import NA_CL_CUBE, Known, assert_is, only

from tltool.errors import DataError


def structure(**changes: object) -> dict[str, object]:
    sites = [{"species": [{"element": e, "occu": 1}], "abc": abc} for e, abc in (("Na", [0, 0, 0]), ("Cl", [0.5] * 3))]
    return {"lattice": {"matrix": (5.64 * np.eye(3)).tolist()}, "sites": sites} | changes


OTHERS: dict[str, tuple[str, str | bytes, Known | str]] = {
    "JSON": ("a.json", json.dumps(structure()), NA_CL_CUBE),
    "lengths and angles": ("a.json", json.dumps(structure(lattice={"a": 5.64})), "'matrix' is missing"),
    "molecule": ("a.json", json.dumps(structure(lattice=None)), "cannot be read as a pymatgen structure"),
    "layer": (
        "a.json",
        json.dumps(structure(lattice={"matrix": np.eye(3).tolist(), "pbc": [True, True, False]})),
        "not periodic in three",
    ),
    "shear": (
        "a.json",
        json.dumps(structure(lattice={"matrix": [[5.64, 0, 0], [1e12, 5.64, 0], [0, 0, 5.64]]})),
        "too long for a crystal",
    ),
    "infinite": (
        "a.json",
        json.dumps(structure(lattice={"matrix": [[np.inf, 0, 0], [0, 1, 0], [0, 0, 1]]})),
        "not a finite number",
    ),
    "cut": ("a.json", json.dumps(structure())[:90], "is not JSON or is incomplete"),
    "deep": ("a.json", "[" * 100_000, "is not JSON"),
    "bomb": ("a.json.gz", gzip.compress(b"[" + b" " * 150_000_000, 6), "has more than"),
    "xyz without pbc": ("a.xyz", '2\nLattice="5.64 0 0 0 5.64 0 0 0 5.64"\nNa 0 0 0\nCl 2.82 2.82 2.82\n', NA_CL_CUBE),
    "xyz, cut": ("a.xyz", '2\nLattice="5.64 0 0 0 5.64 0 0 0 5.64"\nNa 0 0 0\n', "a frame is incomplete"),
    "xyz, molecule": ("a.xyz", "2\nwater\nH 0 0 0\nH 0 0 1\n", "not periodic in three"),
    "xyz, Latin-1": (
        "a.xyz",
        '2\nname=f\u00fcr Lattice="5.64 0 0 0 5.64 0 0 0 5.64"\nNa 0 0 0\nCl 2.82 2.82 2.82\n'.encode("latin-1"),
        NA_CL_CUBE,
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_odd_json_and_xyz(kind: str, tmp_path: Path) -> None:
    name, data, wanted = OTHERS[kind]
    found = only(tmp_path, data, name)
    if isinstance(wanted, str):
        assert isinstance(found, DataError)
        assert re.search(wanted, str(found)), found
    else:
        assert_is(found, wanted)
