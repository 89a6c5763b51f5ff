"""A folder with a CSV gives its records, and every file and row that is left out gives its reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp.inputs import Poscar

from tltool.data.adapters import folder
from tltool.data.record import Dropped, Record
from tltool.errors import ConfigError, DataError

Write = Callable[[str], Path]
COLUMNS = {"gap": "gap_ev", "K_VRH": "bulk"}
PLAIN: dict[str, Any] = {
    "header_line": None,
    "decimal_commas": [],
    "repeated": "error",
    "define": {},
    "weight": None,
    "uncertainty": None,
    "conditions": {},
}


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
    labels, places = list(columns), list(columns.values())
    items = list(folder.read(root, table=name, id_column="id", labels=labels, columns=places, **PLAIN))
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
        "c": "gap is infinite",
        "lost": "no structure file",
        "norow": "no row in the table",
        "torn": "contains no atom sites",
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
    "no such column": ("id,bulk\na,1\n", r"no column 'gap_ev'\. Known: bulk, id"),
    "no id column": ("name,gap_ev,bulk\na,1,1\n", r"no column 'id'\. Known: bulk, gap_ev, name"),
    "no header, three columns": ("a,1,2\nb,1,2\n", r"no column 'id'\. Known: 1, 2, a"),
    "no header, two quantities": ("a,1\nb,1\n", r"no column"),
    "duplicate id": ("id,gap_ev,bulk\na,1,1\na.cif,2,1\n", r"the id 'a' occurs twice"),
    "empty": ("\n", r"is empty"),
    "header alone": ("id,gap_ev,bulk\n", r"has no row with an id"),
    "doubled column": ("id,gap_ev,gap_ev,bulk\na,1,2,3\n", r"has two columns 'gap_ev'; rename one"),
    "paths of one file": ("id,gap_ev,bulk\nsub/c,1,1\n./sub/c.vasp,2,1\n", r"both name sub/c; keep one row"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_bad_table_is_one_clear_error(root: Path, kind: str) -> None:
    text, words = BAD_TABLES[kind]
    table(root, text)
    with pytest.raises(DataError, match=rf"id_prop\.csv: .*{words}"):
        read(root, COLUMNS)


def test_missing_table_folder_and_files(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"id_prop\.csv: there is no such table of labels; name it with data\.ad"):
        read(root, COLUMNS)
    (root / "id_prop.csv").write_bytes(b"id,gap_ev,bulk\n\xff\xfe,1,1\n")
    with pytest.raises(DataError, match=r"id_prop\.csv: is not UTF-8 text"):
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


def items(root: Path, text: str, **files: str) -> dict[str, Record | Dropped]:
    """Read a folder of salts (id: suffix) with a table of one label as ``text``."""
    root = root / "own"
    for name, suffix in files.items():
        path = root / f"{name.replace('__', '/')}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).to(str(path), "cif")
    table(root, text)
    keys = {"table": "id_prop.csv", "id_column": "id", "labels": ["e_form"], "columns": ["label"], **PLAIN}
    return {item.id: item for item in folder.read(root, **keys)}  # type: ignore[arg-type]


def labels(found: dict[str, Record | Dropped]) -> dict[str, float]:
    return {name: item.labels["e_form"] for name, item in found.items() if isinstance(item, Record)}


ALL = {"s0": ".cif", "s1": ".cif", "s2": ".cif"}
SAME = {
    "plain": "id,label\ns0,-1.0\ns1,-1.1\ns2,-1.2\n",
    "no header": "s0,-1.0\ns1,-1.1\ns2,-1.2\n",
    "semicolons": "id;label\ns0;-1.0\ns1;-1.1\ns2;-1.2\n",
    "trailing commas": "id,label\ns0,-1.0,\ns1,-1.1,\ns2,-1.2,\n",
    "other order": "label,id\n-1.0,s0\n-1.1,s1\n-1.2,s2\n",
    "typographic minus": "id,label\ns0,\N{MINUS SIGN}1.0\ns1,\N{MINUS SIGN}1.1\ns2,-1.2\n",
    "suffixes": "id,label\ns0.cif,-1.0\ns1.CIF,-1.1\ns2,-1.2\n",
    "paths": "id,label\n./s0.cif,-1.0\nown/s1.cif,-1.1\nown\\\\s2,-1.2\n",
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_table_in_other_words(tmp_path: Path, kind: str) -> None:
    found = items(tmp_path, SAME[kind], **ALL)
    assert labels(found) == {"s0": -1.0, "s1": -1.1, "s2": -1.2}
    assert len(found) == 3


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("1_0", "e_form is not a number alone: more stands behind it"),
        ("-1.1 eV", "e_form is not a number alone: more stands behind it"),
        ('"-1,1"', "e_form is not a number: it has a comma; write a point as the decimal separator"),
        ("unknown", "e_form is not a number"),
        ("inf", "e_form is infinite"),
        ("nan", "no label"),
        ("", "no label"),
    ],
)
def test_a_cell_that_is_no_label_is_told_with_file_and_row(tmp_path: Path, cell: str, reason: str) -> None:
    found = items(tmp_path, f"id,label\ns0,-1.0\ns1,{cell}\ns2,-1.2\n", **ALL)
    assert labels(found) == {"s0": -1.0, "s2": -1.2}
    lost = found["s1"]
    assert isinstance(lost, Dropped)
    assert lost.reason == reason
    assert lost.detail.startswith("id_prop.csv, line 3: ") or reason == "no label"


@pytest.mark.parametrize("row", ["s1,1,5", "s1", "1,s1,-1.1"])
def test_a_row_of_another_length_is_an_error_with_file_row_and_id(tmp_path: Path, row: str) -> None:
    with pytest.raises(DataError, match=r"id_prop\.csv, line 3 \(it begins with '(s1|1)'\): has \d cells"):
        items(tmp_path, f"id,label\ns0,-1.0\n{row}\ns2,-1.2\n", **ALL)


def test_ids_are_what_stands_there(tmp_path: Path) -> None:
    names = dict.fromkeys(["00012", "1e5", "agm0.1", "12", "NaN"], ".cif")
    text = "id,label\n" + "".join(f"{name},{-n}\n" for n, name in enumerate(names))
    assert labels(items(tmp_path, text, **names)) == {name: -n for n, name in enumerate(names)}


def test_a_path_to_another_folder_is_not_this_file(tmp_path: Path) -> None:
    found = items(tmp_path, "id,label\nother/s0.cif,-1\nsub/s1.cif,-2\n,-3\n", s0=".cif", sub__s1=".cif")
    assert labels(found) == {"s1": -2.0}
    assert {name: item.reason for name, item in found.items() if isinstance(item, Dropped)} == {
        "s0": "no row in the table",
        "other/s0.cif": "no structure file",
        "line 4": "no id",
    }


def test_quantities_are_checked(root: Path) -> None:
    table(root, "id,gap_ev,bulk\na,1,1\n")
    with pytest.raises(ConfigError, match=r"'gapp'.*Did you mean 'gap'"):
        read(root, {"gapp": "gap_ev"})
    with pytest.raises(ConfigError, match="one column for each quantity"):
        read(root, {})
