"""A folder with a CSV gives its records, and every file and row that is left out gives its reason."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp.inputs import Poscar

from tltool.data.adapters import folder
from tltool.data.record import Dropped, Record
from tltool.errors import ConfigError, DataError

Write = Callable[[str], Path]
COLUMNS = {"gap": "gap_ev", "K_VRH": "bulk"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a folder of a CIF, a POSCAR, a disordered and a damaged CIF, a file without a row, and no table."""
    for name, metal in {"a": "Na", "b": "K", "norow": "Rb"}.items():
        salt = Structure(Lattice.cubic(4), [metal, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        (tmp_path / f"{name}.cif").write_text(str(CifWriter(salt)))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.vasp").write_text(Poscar(Structure(Lattice.cubic(3), ["Fe"], [[0, 0, 0]])).get_str())
    alloy = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    (tmp_path / "alloy.cif").write_text(str(CifWriter(alloy)))
    (tmp_path / "torn.cif").write_text((tmp_path / "a.cif").read_text()[:300])
    return tmp_path


def table(root: Path, text: str, name: str = "id_prop.csv") -> None:
    (root / name).write_text(text, encoding="utf-8")


def read(root: Path, columns: dict[str, str], name: str = "id_prop.csv") -> tuple[dict[str, Record], dict[str, str]]:
    items = list(folder.read(root, table=name, id_column="id", labels=list(columns), columns=list(columns.values())))
    records = {item.id: item for item in items if isinstance(item, Record)}
    dropped = {item.id: item.reason for item in items if isinstance(item, Dropped)}
    assert len(records) + len(dropped) == len(items), "an id came twice"
    return records, dropped


def test_records_and_reasons(root: Path) -> None:
    table(
        root,
        "\ufeffid, note, bulk, gap_ev\n"
        "a.cif,x,10,1.5\n"
        "b,x,,0.25\n\n"
        "c,x,nan,inf\n"
        "alloy,x,1,1\n"
        "torn.cif,x,1,1\n"
        "lost,x,1,1\n",
    )
    records, dropped = read(root, COLUMNS)
    assert {name: record.labels for name, record in records.items()} == {
        "a": {"gap": 1.5, "K_VRH": 10.0},
        "b": {"gap": 0.25},
    }
    assert records["b"].crystal.numbers.tolist() == [19, 17]
    assert dropped == {
        "alloy": "has partly occupied sites",
        "c": "no label",
        "lost": "no structure file",
        "norow": "no row in the table",
        "torn": "holds no atom sites",
    }


@pytest.mark.parametrize("first", ["a,1.5\n", "a,nan\n", "a.cif , 1e0\n"])
def test_table_without_header(root: Path, first: str) -> None:
    table(root, first + "b,-2\nc,0\n", "labels.csv")
    records, dropped = read(root, {"e_form": "target"}, "labels.csv")
    assert records["b"].labels == {"e_form": -2.0}
    assert records["c"].labels == {"e_form": 0.0}
    assert ("a" in records) is ("nan" not in first)
    assert set(dropped) >= {"alloy", "torn", "norow"}


def test_numbers_as_ids_do_not_hide_a_header(root: Path) -> None:
    (root / "1.cif").write_text((root / "a.cif").read_text())
    table(root, "id,gap_ev\n1,0.5\n")
    assert read(root, {"gap": "gap_ev"})[0]["1"].labels == {"gap": 0.5}


def test_several_structures_in_a_file_have_a_row_each(root: Path) -> None:
    text = (root / "a.cif").read_text()
    (root / "two.cif").write_text(text + text.replace("4.0", "4.2"))
    table(root, "id,gap_ev\ntwo-0,1\ntwo-1,2\n")
    records, _ = read(root, {"gap": "gap_ev"})
    assert [record.labels["gap"] for record in records.values()] == [1.0, 2.0]
    assert records["two-1"].crystal.lattice[0, 0] == pytest.approx(4.2)


BAD_TABLES = {
    "no such column": ("id,bulk\na,1\n", r"no column 'gap_ev'; it has id, bulk"),
    "no id column": ("name,gap_ev,bulk\na,1,1\n", r"no column 'id'; it has name, gap_ev, bulk"),
    "no header, three columns": ("a,1,2\nb,1,2\n", r"no column 'bulk' or 'gap_ev' or 'id'; it has a, 1, 2"),
    "no header, two quantities": ("a,1\nb,1\n", r"no column"),
    "duplicate id": ("id,gap_ev,bulk\na,1,1\na.cif,2,1\n", r"the id 'a' occurs twice"),
    "empty": ("\n", r"is empty"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_bad_table_is_one_clear_error(root: Path, kind: str) -> None:
    text, words = BAD_TABLES[kind]
    table(root, text)
    with pytest.raises(DataError, match=rf"id_prop\.csv: .*{words}"):
        read(root, COLUMNS)


def test_missing_table_folder_and_files(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"id_prop\.csv: cannot be read as a CSV table \(No such file"):
        read(root, COLUMNS)
    (root / "id_prop.csv").write_bytes(b"id,gap_ev,bulk\n\xff\xfe,1,1\n")
    with pytest.raises(DataError, match=r"id_prop\.csv: cannot be read"):
        read(root, COLUMNS)
    empty = tmp_path / "empty"
    empty.mkdir()
    table(empty, "id,gap_ev,bulk\na,1,1\n")
    with pytest.raises(DataError, match="no structure file"):
        read(empty, COLUMNS)


def test_two_files_of_one_id_are_an_error_that_names_both(root: Path) -> None:
    (root / "sub" / "a.cif").write_text((root / "a.cif").read_text())
    table(root, "id,gap_ev,bulk\na,1,1\n")
    with pytest.raises(DataError, match=r"sub/a\.cif and .*a\.cif have the same id 'a'"):
        read(root, COLUMNS)


def test_quantities_are_checked(root: Path) -> None:
    table(root, "id,gap_ev,bulk\na,1,1\n")
    with pytest.raises(ConfigError, match=r"'gapp'.*Did you mean 'gap'"):
        read(root, {"gapp": "gap_ev"})
    with pytest.raises(ConfigError, match="one column for each quantity"):
        read(root, {})
