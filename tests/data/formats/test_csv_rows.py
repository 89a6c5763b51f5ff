"""However a table is written, it gives the same cells or one clear error; no cell is taken for another column's."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tltool.data.formats import csv_rows
from tltool.errors import DataError

WANTED = ["id", "label"]
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=6)


def read(path: Path, bare: bool = False) -> list[dict[str, str]]:
    return [row for _, row in csv_rows.read(path, WANTED, WANTED if bare else ())]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 999), st.floats(-9, 9), WORDS), min_size=1, max_size=4),
    order=st.permutations(["id", "label", "note"]),
    separator=st.sampled_from([",", ";", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    trailing=st.booleans(),
    comment=st.sampled_from(["", "# from somewhere, with commas; and others"]),
)
def test_the_same_table_written_otherwise(
    tmp_path: Path, rows: list[tuple[int, float, str]], order: list[str], separator: str, quoting: int, end: str,
    encoding: str, trailing: bool, comment: str,
) -> None:  # fmt: skip
    """Whatever the separator, quotes, line ends, encoding, order of columns and empty cells at the end."""
    table = [{"id": f"s{n}", "label": repr(value), "note": note} for n, value, note in rows]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    more = [""] if trailing else []
    writer.writerow([*order, *more])
    writer.writerows([[row[name] for name in order] + more for row in table])
    path = tmp_path / "t.csv"
    path.write_bytes(((comment + end if comment else "") + out.getvalue()).encode(encoding))
    found = read(path)
    assert [{name: row[name] for name in WANTED} for row in found] == [
        {name: row[name] for name in WANTED} for row in table
    ]
    # Blanks after a separator are of no account.
    assert [row["note"].strip() for row in found] == [row["note"].strip() for row in table]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_row_of_another_length_is_never_read(tmp_path: Path, data: st.DataObject) -> None:
    rows = [[f"s{n}", str(n), "x"] for n in range(4)]
    place = data.draw(st.integers(0, 3))
    wrong = data.draw(st.sampled_from([rows[place][:-1], rows[place][:1], [*rows[place], "5"], ["1", *rows[place]]]))
    rows[place] = wrong
    path = tmp_path / "t.csv"
    path.write_text("id,label,note\n" + "".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    first = wrong[0]
    with pytest.raises(
        DataError, match=rf"t\.csv, line {place + 2} \(it begins with '{first}'\): has {len(wrong)} cell"
    ):
        read(path)


def test_a_table_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for text in ("s0,-1.0\ns1,2\n", "s0;−1.0\ns1;2\n", "s0\tnan\ns1\t2\n", "# said\ns0,-1.0,\ns1,2,\n"):
        path.write_text(text, encoding="utf-8")
        assert [row["id"] for row in read(path, bare=True)] == ["s0", "s1"]
    for text in ("s0,metal\ns1,2\n", "s0,1,2\n", "s0\n", "s0,\n"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"t\.csv: has no column 'id'"):
            read(path, bare=True)


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n\n", "is empty"),
    "doubled column": (b"id,label,label\na,1,2\n", "has two columns 'label'; rename one"),
    "open quote": (b'id,label\ns0,"1.5\ns1,1.6\ns2,1.7\n', "line 4: a double quote is missing or misplaced"),
    "quote that another row closes": (
        b'id,label\ns0,"1.5\ns1,1.6\ns2,"1.7\n',
        "line 4: a double quote is missing or misplaced",
    ),
    "blanks beside quotes": (b'"id" , "label"\n"s0" , "1.0"\n', "column"),
    "another encoding": ("id,label,unit\ns0,1,µeV\n".encode("latin-1"), "is not UTF-8 text after 's0,1,'"),
    "UTF-16 without its mark": ("id,label\ns0,1\n".encode("utf-16-le"), "is not UTF-8 text"),
    "odd bytes of UTF-16": ("id,label\ns0,1\n".encode("utf-16")[:-1], "is not UTF-8 text"),
    "a number with a comma": (b"id,label\ns0,1,5\n", r"line 2 \(it begins with 's0'\): has 3 cells, but the first row"),
    "written by R": (b'id,label\n"1",s0,1.5\n', r"line 2 \(it begins with '1'\): has 3 cells"),
    "blanks between": (b"id label\ns0 1\n", "has no column 'id'"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    content, words = BAD[kind]
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert not any(word in str(caught.value) for word in ("codec", "Error", "expected after"))
