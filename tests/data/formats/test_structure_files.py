"""Every kind of structure file gives the crystal that went into it, and damaged files give one clear error."""

import gzip
import json
import re
import subprocess
import sys
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import ase
import genuine
import numpy as np
import pytest
from pymatgen.core import Element, Lattice, Species, Structure
from pymatgen.io.cif import CifParser, CifWriter
from pymatgen.io.vasp.inputs import Poscar
from support import of_space_group

from tltool.data import store
from tltool.data.formats import structure_files
from tltool.data.formats.cif import cif_file, cif_text
from tltool.data.graph import neighbours
from tltool.data.record import Crystal, from_structure
from tltool.errors import DataError

BUNDLED = Path(store.__file__).parent / "bundled"
SHARED = Path(__file__).parents[3] / ".." / "shared" / "data"
ROCK_SALT = of_space_group("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def structure(crystal: Crystal) -> Structure:
    return Structure(crystal.lattice, [Element.from_Z(int(z)) for z in crystal.numbers], crystal.frac)


def cif_of(made: Structure, symprec: float | None = None) -> str:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)  # between pymatgen and spglib
        return str(CifWriter(made, symprec=symprec))


def some_crystals(name: str, n: int) -> list[Crystal]:
    records = store.load(BUNDLED / name)
    return [records.crystal(row) for row in range(0, len(records), len(records) // n)]


def assert_same(one: Crystal, other: Crystal, tolerance: float = 2e-4) -> None:
    """Hold composition, volume and the distances of the 12 nearest neighbours of each species against each other."""
    np.testing.assert_array_equal(np.sort(one.numbers), np.sort(other.numbers))
    assert np.linalg.det(one.lattice) == pytest.approx(np.linalg.det(other.lattice), rel=1e-5)
    for z in np.unique(one.numbers):
        mine, its = (neighbours.find(crystal, 30.0, 12, True) for crystal in (one, other))
        of_z = [np.sort(f.distance[c.numbers[f.site] == z]) for f, c in ((mine, one), (its, other))]
        np.testing.assert_allclose(of_z[0], of_z[1], atol=tolerance)


def only(path: Path) -> Crystal:
    ((name, crystal),) = structure_files.read(path)
    assert name == structure_files.stem(path.name)
    return crystal


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def small_cif(sites: str, *, a: float = 5.43, group: str = "", columns: str = "", formula: str = "") -> str:
    """Return a small CIF of a cubic cell (or a hexagonal one for a group with a 6)."""
    gamma, c = (120, 5.21) if "6" in group else (90, a)
    return (
        f"data_made\n_cell_length_a {a}\n_cell_length_b {a}\n_cell_length_c {c}\n_cell_angle_alpha 90\n"
        f"_cell_angle_beta 90\n_cell_angle_gamma {gamma}\n"
        + (f"_symmetry_space_group_name_H-M '{group}'\n" if group else "")
        + (f"_chemical_formula_sum '{formula}'\n" if formula else "")
        + "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n"
        + f"_atom_site_fract_z\n{columns}{sites}\n"
    )


def by_pymatgen(text: str) -> Crystal:
    """Return the crystal as the referee reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return from_structure(CifParser.from_str(text).parse_structures(primitive=False)[0], "referee")


@pytest.fixture
def no_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test fail in which the usual tokeniser does not do."""

    def refuse(text: str, where: str) -> list[cif_text.Block | DataError]:
        raise AssertionError(f"{where}: gemmi did not settle this")

    monkeypatch.setattr(cif_text, "_by_pymatgen", refuse)


@pytest.mark.usefixtures("no_fall_back")
@pytest.mark.parametrize("name", ["demo.h5", "elastic.h5"])
def test_plain_cif_gives_the_crystal_that_was_written(name: str, tmp_path: Path) -> None:
    for crystal in some_crystals(name, 40):
        path = written(tmp_path, "a.cif", cif_of(structure(crystal)))
        assert_same(only(path), crystal)


@pytest.mark.usefixtures("no_fall_back")
@pytest.mark.parametrize("name", ["demo.h5", "elastic.h5"])
def test_symmetric_cif_is_expanded_as_pymatgen_does(name: str, tmp_path: Path) -> None:
    expanded = 0
    for crystal in some_crystals(name, 40):
        text = cif_of(structure(crystal), symprec=0.01)
        found = only(written(tmp_path, "a.cif", text))
        assert_same(found, by_pymatgen(text))
        expanded += len(re.findall(r"^ +[0-9]+ +'", text, re.MULTILINE)) > 1
    assert expanded > 20, "the sample has next to no symmetry, so that nothing was tested"


@pytest.mark.usefixtures("no_fall_back")
def test_alexandria_cifs_are_read_as_pymatgen_reads_them() -> None:
    # Published ones are written by pymatgen, in P 1, as these are.
    texts = {f"{n}.cif": cif_of(structure(crystal)).encode() for n, crystal in enumerate(some_crystals("demo.h5", 40))}
    published = SHARED / "alexandria_cifs_unlabelled.tar.xz"
    if published.is_file():
        with tarfile.open(published) as archive:
            members = [member for member in archive.getmembers() if member.name.endswith(".cif")][::8]
            texts |= {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]
    assert len(texts) >= 40
    for name, data in texts.items():
        (found,) = cif_file.crystals(data, name)
        assert isinstance(found, Crystal), found
        assert_same(found, by_pymatgen(data.decode()), tolerance=2e-3)


def test_minerals_of_the_crystallography_open_database_are_read_as_pymatgen_reads_them() -> None:
    folder = Path(ase.__file__).parent / "test" / "testdata" / "minerals"
    if not folder.is_dir():
        pytest.skip("this ase has no test data")
    for path in structure_files.files(folder):
        assert_same(only(path), by_pymatgen(path.read_text()), tolerance=2e-3)


@pytest.mark.usefixtures("no_fall_back")
def test_operations_with_shifts_of_the_origin_are_read(tmp_path: Path) -> None:
    """Written by pymatgen for a crystal on the edge of a higher symmetry, and read by it as 34 sites for 10."""
    records = store.load(BUNDLED / "demo.h5")
    crystal = records.crystal(records.ids.index("mp-610530"))
    text = cif_of(structure(crystal), symprec=0.01)
    assert "z+884/885" in text
    found = only(written(tmp_path, "a.cif", text))
    assert len(found.numbers) == 2 * len(crystal.numbers) == 10
    twice = [np.sort(neighbours.find(c, 4.8, None, "whole").distance) for c in (found, crystal)]
    np.testing.assert_allclose(twice[0], np.repeat(twice[1], 2), atol=0.02)


@pytest.mark.usefixtures("no_fall_back")
def test_rounded_special_position_is_made_exact(tmp_path: Path) -> None:
    found = only(written(tmp_path, "mg.cif", small_cif("Mg1 Mg 0.333 0.667 0.25", a=3.21, group="P 63/m m c")))
    assert len(found.numbers) == 2
    np.testing.assert_allclose(np.sort(found.frac[:, 0]), [1 / 3, 2 / 3], atol=1e-12)


@pytest.mark.usefixtures("no_fall_back")
@pytest.mark.parametrize(
    ("group", "sites"),
    [
        ("F d -3 m", "Si1 Si 0 0 0 8"),
        ("F d -3 m", "Si1 Si 0.125 0.125 0.125 8"),
        ("F d -3 m :1", "Si1 Si 0 0 0 8"),
        ("F d -3 m :2", "Si1 Si 0.125 0.125 0.125 8"),
    ],
)
def test_origin_is_the_one_that_fits_the_multiplicities(group: str, sites: str, tmp_path: Path) -> None:
    columns = "_atom_site_symmetry_multiplicity\n"
    found = only(written(tmp_path, "si.cif", small_cif(sites, group=group, columns=columns)))
    assert len(found.numbers) == 8
    assert neighbours.find(found, 5.0, 4, True).distance == pytest.approx(np.full(32, 5.43 * 3**0.5 / 4))


def test_open_choice_of_origin_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "si.cif", small_cif("Si1 Si 0 0 0", group="F d -3 m"))
    with pytest.raises(DataError, match=r"si\.cif.*two origin choices"):
        only(path)


@pytest.mark.usefixtures("no_fall_back")
def test_blocks_without_sites_are_passed_over_and_equal_names_are_two_crystals(tmp_path: Path) -> None:
    block = cif_of(ROCK_SALT)
    path = written(tmp_path, "two.cif", "data_global\n_journal_year 2020\n" + block + block)
    found = list(structure_files.read(path))
    assert [name for name, _ in found] == ["two-0", "two-1"]
    for _, crystal in found:
        assert_same(crystal, from_structure(ROCK_SALT, ""))


def test_pymatgen_tells_the_words_apart_where_gemmi_refuses_and_is_named(tmp_path: Path) -> None:
    text = cif_of(ROCK_SALT)
    found = only(written(tmp_path, "odd.cif", "made by hand\n" + text.replace("data_", "data_a\n_note\ndata_")))
    assert found.reader == "pymatgen"
    assert_same(found, from_structure(ROCK_SALT, ""))
    assert only(written(tmp_path, "plain.cif", text)).reader == ""
    wrong = text.replace("Na4 Cl4", "Na4 Cl3")
    with pytest.raises(DataError, match="do not have the composition"):
        only(written(tmp_path, "odd.cif", "made by hand\n" + wrong))


@pytest.mark.usefixtures("no_fall_back")
@pytest.mark.parametrize("formula", ["", "D1 H1 O1 T1"])
def test_isotopes_are_hydrogen(formula: str, tmp_path: Path) -> None:
    text = small_cif("H1 H 0 0 0\nD1 D 0 0 .2\nT1 T 0 0 .4\nO1 O2- 0 .4 0", formula=formula)
    assert sorted(only(written(tmp_path, "ice.cif", text)).numbers.tolist()) == [1, 1, 1, 8]


def test_site_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    crystal = only(written(tmp_path, "twice.cif", small_cif("Si1 Si 0 0 0\nSi2 Si 1 0 0.00001\nO1 O .5 .5 .5")))
    assert crystal.numbers.tolist() == [14, 8]


OCCUPANCY = "_atom_site_occupancy\n"
BAD_CIFS = {
    "partly occupied": (small_cif("Fe1 Fe 0 0 0 0.5\nNi1 Ni 0 0 0 0.5", columns=OCCUPANCY), "partly occupied"),
    "vacancy": (small_cif("Fe1 Fe 0 0 0 0.9(1)", columns=OCCUPANCY), "partly occupied"),
    "dummy": (small_cif("X1 X 0 0 0\nO1 O .5 .5 .5"), "element of a site is unknown"),
    "dummy in the formula": (small_cif("X1 X 0 0 0\nO1 O .5 .5 .5", formula="X1 O1"), "element of a site is unknown"),
    "no number": (small_cif("Fe1 Fe 0 0 ?"), "not a finite number"),
    "two elements on a site": (small_cif("Fe1 Fe 0 0 0\nNi1 Ni 0 0 0"), "have the same position"),
    "missing hydrogen": (
        small_cif("O1 O 0 0 0", formula="H2 O1"),
        r"do not have the composition of the stated formula \(H2 O1\)",
    ),
    "unknown group": (small_cif("Fe1 Fe 0 0 0", group="Q 4"), "space group is not known"),
    "no cell": (small_cif("Fe1 Fe 0 0 0").replace("_cell_length_a 5.43\n", ""), "has no _cell_length_a"),
    "flat cell": (small_cif("Fe1 Fe 0 0 0").replace("_length_a 5.43", "_length_a 0"), "is not a positive number"),
    "no sites": ("data_a\n_cell_length_a 5\n", "contains no atom sites"),
    "empty": ("", "contains no atom sites"),
    "not a CIF": ("<html>404</html>", "contains no atom sites"),
}


@pytest.mark.parametrize("kind", BAD_CIFS)
def test_bad_cif_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    text, words = BAD_CIFS[kind]
    with pytest.raises(DataError, match=words) as caught:
        only(written(tmp_path, "bad.cif", text))
    assert "bad.cif" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("symprec", [None, 0.01])
def test_truncated_cif_never_gives_another_crystal(symprec: float | None, tmp_path: Path) -> None:
    text = cif_of(ROCK_SALT, symprec)
    whole, errors = only(written(tmp_path, "a.cif", text)), 0
    for end in range(0, len(text), len(text) // 60):
        ((_, found),) = structure_files.attempts(written(tmp_path, "a.cif", text[:end]))
        errors += isinstance(found, DataError)
        if isinstance(found, Crystal):
            assert_same(found, whole)
    assert errors > 55


def test_one_bad_block_leaves_the_others_readable(tmp_path: Path) -> None:
    good = cif_of(ROCK_SALT)
    path = written(tmp_path, "some.cif", BAD_CIFS["vacancy"][0] + good)
    (_, bad), (name, crystal) = structure_files.attempts(path)
    assert isinstance(bad, DataError)
    assert "block made" in str(bad)
    assert name == "some-1"
    assert isinstance(crystal, Crystal)
    with pytest.raises(DataError, match="partly occupied"):
        list(structure_files.read(path))


@pytest.mark.parametrize("name", ["a.vasp", "a.poscar", "POSCAR", "CONTCAR", "POSCAR_relaxed"])
def test_poscar(name: str, tmp_path: Path) -> None:
    (crystal, *_) = some_crystals("elastic.h5", 5)
    assert_same(only(written(tmp_path, name, Poscar(structure(crystal)).get_str(significant_figures=10))), crystal)


def test_poscar_without_symbols_is_refused_and_not_made_up(tmp_path: Path) -> None:
    text = Poscar(ROCK_SALT).get_str()
    lines = [re.sub(r" (Na|Cl)$", "", line) for line in text.splitlines()]
    path = written(tmp_path, "POSCAR", "\n".join(["no symbols", *lines[1:5], *lines[6:]]))
    with pytest.raises(DataError, match=r"POSCAR: has no line with the symbols"):
        only(path)
    with pytest.raises(DataError, match="has 1 positions, but the counts add up to 8"):
        only(written(tmp_path, "a.vasp", "\n".join(text.splitlines()[:9])))


def test_extended_xyz(tmp_path: Path) -> None:
    from ase import Atoms
    from ase.io import write

    crystals = some_crystals("elastic.h5", 3)[:3]
    frames = [Atoms(numbers=c.numbers, cell=c.lattice, scaled_positions=c.frac, pbc=True) for c in crystals]
    write(tmp_path / "many.xyz", frames, format="extxyz")
    found = list(structure_files.read(tmp_path / "many.xyz"))
    assert [name for name, _ in found] == ["many-0", "many-1", "many-2"]
    for (_, crystal), wanted in zip(found, crystals, strict=True):
        assert_same(crystal, wanted)
    write(tmp_path / "one.extxyz", frames[0], format="extxyz")
    assert_same(only(tmp_path / "one.extxyz"), crystals[0])

    frames[1].pbc = (True, True, False)
    write(tmp_path / "slab.xyz", frames, format="extxyz")
    (_, first), (_, slab), _ = structure_files.attempts(tmp_path / "slab.xyz")
    assert isinstance(first, Crystal)
    assert isinstance(slab, DataError)
    assert "slab.xyz, frame 1: is not periodic" in str(slab)

    text = (tmp_path / "many.xyz").read_text()
    for bad in (text[: len(text) // 2], "2\nno lattice\nH 0 0 0\nH 0 0 0.7\n", "", "nonsense\n"):
        with pytest.raises(DataError, match=r"bad\.xyz"):
            list(structure_files.read(written(tmp_path, "bad.xyz", bad)))


def as_json(crystals: list[Crystal]) -> list[dict[str, object]]:
    return [structure(crystal).as_dict() for crystal in crystals]


def bare(data: list[dict[str, object]]) -> object:
    return data[0]


JSON_LAYOUTS: dict[str, tuple[Callable[[list[dict[str, object]]], object], list[str]]] = {
    "one": (bare, ["file"]),
    "an entry": (lambda data: {"structure": data[0], "energy": 1.0, "entry_id": None}, ["file"]),
    "a list": (lambda data: data, ["file-0", "file-1", "file-2"]),
    "by id": (lambda data: {f"mp-{i}": d for i, d in enumerate(data)}, ["mp-0", "mp-1", "mp-2"]),
    "entries": (
        lambda data: {"entries": [{"structure": d, "data": {"mat_id": f"agm{i}"}} for i, d in enumerate(data)]},
        ["agm0", "agm1", "agm2"],
    ),
    "entries of one id": (
        lambda data: [{"structure": d, "entry_id": "same"} for d in data],
        ["file-0", "file-1", "file-2"],
    ),
    "matbench": (
        lambda data: {"index": [4, 7, 9], "columns": ["gap", "structure"], "data": [[0.5, d] for d in data]},
        ["file-4", "file-7", "file-9"],
    ),
}


@pytest.mark.parametrize("layout", JSON_LAYOUTS)
@pytest.mark.parametrize("packed", [False, True])
def test_json(layout: str, packed: bool, tmp_path: Path) -> None:
    make, names = JSON_LAYOUTS[layout]
    crystals = some_crystals("elastic.h5", 3)[:3]
    text = json.dumps(make(as_json(crystals)))
    path = tmp_path / ("file.json.gz" if packed else "file.json")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = list(structure_files.read(path))
    assert [name for name, _ in found] == names
    for (_, crystal), wanted in zip(found, crystals, strict=False):
        assert_same(crystal, wanted)


def test_a_matbench_file_is_read_as_pymatgen_reads_it(tmp_path: Path) -> None:
    rows = [(n, crystal, 98.5) for n, crystal in enumerate(genuine.smallest(60))]
    paths = [genuine.matbench(tmp_path / "matbench_phonons.json.gz", "last phdos peak", rows)]
    for path in paths + [SHARED / "matbench_phonons.json.gz"] * SHARED.is_dir():
        with gzip.open(path, "rt") as file:
            data = json.load(file)
        found = list(structure_files.read(path))
        assert len(found) == len(data["index"])
        for (_, crystal), row in list(zip(found, data["data"], strict=True))[::20]:
            wanted = from_structure(Structure.from_dict(row[0]), "")
            for mine, its in zip(crystal[:3], wanted[:3], strict=True):
                np.testing.assert_allclose(mine, its, atol=1e-12)


def test_ions_and_isotopes_in_a_dict_are_elements() -> None:
    ions = Structure(Lattice.cubic(5), [Species("Fe", 3), "H", "H", Species("O", -2)], np.arange(12).reshape(4, 3) / 13)
    data = ions.as_dict()
    for site, isotope in zip(data["sites"][1:3], "DT", strict=True):
        site["species"][0]["element"] = isotope
    assert structure_files.from_dict(data, "").numbers.tolist() == [26, 1, 1, 8]


def test_one_disordered_structure_leaves_the_others_readable(tmp_path: Path) -> None:
    disordered = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]).as_dict()
    vacancy = Structure(Lattice.cubic(3), [{"Fe": 0.5}], [[0, 0, 0]]).as_dict()
    dummy = Structure(Lattice.cubic(3), ["X"], [[0, 0, 0]]).as_dict()
    data = {"a": ROCK_SALT.as_dict(), "b": disordered, "c": vacancy, "d": dummy, "e": {"sites": []}}
    found = dict(structure_files.attempts(written(tmp_path, "some.json", json.dumps(data))))
    assert isinstance(found["a"], Crystal)
    for name, words in {"b": "partly occupied", "c": "partly occupied", "d": "not a real", "e": "cannot be"}.items():
        assert re.search(rf"some\.json, structure {name}: .*{words}", str(found[name]))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3", '{"a": 1}', '{"a": {"b": 2}}', '[{"lattice": 1}]', "[1]"])
@pytest.mark.parametrize("name", ["bad.json", "bad.json.gz"])
def test_bad_json_is_one_clear_error(text: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bad\.json"):
        list(structure_files.read(written(tmp_path, name, text)))


def test_files_below_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no structure file.*\.cif.*\.json\.gz.*POSCAR"):
        structure_files.files(tmp_path)
    names = ["b.CIF", "a.json.gz", "sub/POSCAR", "sub/c.extxyz"]
    for name in [*names, "id_prop.csv", "notes.txt", ".hidden.cif", ".git/d.cif", "sub/._b.cif"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert structure_files.files(tmp_path) == sorted(tmp_path / name for name in names)
    assert structure_files.files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    for name, words in {"notes.txt": "not a structure file of a known type", "none.cif": "no such file"}.items():
        with pytest.raises(DataError, match=words):
            list(structure_files.read(tmp_path / name))


def test_heavy_readers_are_imported_only_when_used() -> None:
    heavy = "{'ase', 'gemmi', 'pymatgen'}"
    code = f"import sys, tltool.data.formats.structure_files; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
