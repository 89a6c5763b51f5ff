from pathlib import Path

import ase
import numpy as np
import pytest
from pymatgen.core import Lattice
from support import of_space_group

from tltool.data.formats import python_objects
from tltool.errors import DataError

SALT = of_space_group("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def written(folder: Path, name: str) -> Path:
    path = folder / name
    SALT.to(filename=str(path), fmt="cif" if path.suffix == ".cif" else "poscar")
    return path


def same(found: python_objects.Crystal) -> bool:
    """Whether a crystal is rock salt: eight sites and the lattice."""
    return sorted(found.numbers) == [11] * 4 + [17] * 4 and bool(np.allclose(found.lattice, SALT.lattice.matrix))


def test_what_holds_one_structure_gives_one_crystal(tmp_path: Path) -> None:
    atoms = ase.Atoms(
        numbers=[s.Z for s in SALT.species], scaled_positions=SALT.frac_coords, cell=SALT.lattice.matrix, pbc=True
    )
    plain = python_objects.crystal(SALT, "here")
    objects = [SALT, atoms, plain, SALT.as_dict(), written(tmp_path, "salt.cif"), str(written(tmp_path, "POSCAR"))]
    found = list(python_objects.attempts(objects))
    assert [name for name, _ in found] == [str(n) for n in range(6)]
    assert [isinstance(crystal, python_objects.Crystal) and same(crystal) for _, crystal in found] == [True] * 6


def test_a_word_that_names_no_file_is_a_formula() -> None:
    [(_, found)] = python_objects.attempts(["Fe2O3"])
    assert isinstance(found, python_objects.Crystal)
    assert found.amounts is not None
    assert dict(zip(found.numbers.tolist(), found.amounts.tolist(), strict=True)) == {26: 2, 8: 3}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3.5, "structure 0: is a float; give a pymatgen Structure"),
        ("nothing.cif", "structure 0: there is no file nothing.cif"),
        ("no/such/file", "structure 0: there is no file no/such/file"),
        ("hello", "structure 0: the formula cannot be read at 'hello'"),
        (ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, 1]]), "structure 0: is not periodic"),
    ],
)
def test_what_is_no_structure_is_said(given: object, said: str) -> None:
    [(_, error)] = python_objects.attempts([given])
    assert isinstance(error, DataError)
    assert said in str(error)


def test_a_file_of_several_is_not_one(tmp_path: Path) -> None:
    from ase.io import write

    atoms = ase.Atoms("NaCl", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[4, 4, 4], pbc=True)
    write(tmp_path / "two.xyz", [atoms, atoms], format="extxyz")
    [(_, error)] = python_objects.attempts([tmp_path / "two.xyz"])
    assert "contains 2 structures" in str(error)


@pytest.mark.parametrize("single", ["NaCl", SALT, Path("x.cif"), SALT.as_dict()], ids=list("abcd"))
def test_a_single_one_asks_for_brackets(single: object) -> None:
    with pytest.raises(DataError, match="brackets"):
        list(python_objects.attempts(single))
