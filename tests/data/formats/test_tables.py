"""A table gives the same rows in every format it can be written in, and one clear error where it is damaged."""

import bz2
import gzip
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tltool.data.formats import tables
from tltool.errors import DataError

TABLE = [
    {"id": "a", "gap": 1.5, "text": 'one, "two"\nthree', "more": {"K": {"vrh": 3.0}}},
    {"id": "b", "gap": None, "text": "", "more": {"K": {"vrh": 4.0}}},
]
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}


def as_csv(folder: Path, separator: str = ",") -> str:
    frame = pd.DataFrame([{k: v for k, v in row.items() if k != "more"} for row in TABLE])
    return str(frame.to_csv(index=False, sep=separator))


def split(order: tuple[str, ...]) -> str:
    whole = {"columns": list(TABLE[0]), "index": [7, 9], "data": [list(row.values()) for row in TABLE]}
    return json.dumps({key: whole[key] for key in order})


TEXTS: dict[str, tuple[str, str]] = {
    "JSON lines": ("t.jsonl", "".join(json.dumps(row) + "\n" for row in TABLE)),
    "JSON lines, blank lines between": ("t.ndjson", "\n\n".join(map(json.dumps, TABLE))),
    "JSON lines under another name": ("t.json", "".join(json.dumps(row) + "\n" for row in TABLE)),
    "list": ("t.json", json.dumps(TABLE)),
    "list, indented": ("t.json", json.dumps(TABLE, indent=2)),
    "entries": ("t.json", json.dumps({"meta": {"n": 2}, "entries": TABLE, "links": [1]})),
    "answer of a server": ("t.json", json.dumps({"data": TABLE, "meta": {}, "included": [{"x": 1}]})),
    "split": ("t.json", split(("index", "columns", "data"))),
    "split, data first": ("t.json", split(("data", "index", "columns"))),
}


def read(path: Path, *wanted: str) -> list[tuple[str, tables.Row]]:
    return list(tables.rows(path, wanted))


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("layout", TEXTS)
def test_every_layout_of_json(tmp_path: Path, layout: str, packed: str) -> None:
    name, text = TEXTS[layout]
    found = read(written(tmp_path / (name + packed), PACKED[packed](text.encode())), "id", "gap", "more.K.vrh")
    assert [{k: v for k, v in row.items() if k != "index"} for _, row in found] == TABLE
    assert [tables.value(row, "more.K.vrh") for _, row in found] == [3.0, 4.0]
    if layout.startswith("split"):
        assert [row["index"] for _, row in found] == [7, 9]


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_csv_and_tsv(tmp_path: Path, suffix: str, separator: str, packed: str) -> None:
    text = "\ufeff# where it comes from\n\n" + as_csv(tmp_path, separator)
    found = read(written(tmp_path / f"t{suffix}{packed}", PACKED[packed](text.encode())), "id", "gap")
    assert [where for where, _ in found] == ["line 4", "line 6"], "cells may have several lines"
    assert [row["gap"] for _, row in found] == ["1.5", ""]
    assert found[0][1]["text"] == TABLE[0]["text"]


@pytest.mark.parametrize("packed", PACKED)
def test_parquet_reads_only_what_is_wanted(tmp_path: Path, packed: str) -> None:
    pd.DataFrame(TABLE).to_parquet(tmp_path / "t.parquet")
    path = written(tmp_path / f"u.parquet{packed}", PACKED[packed]((tmp_path / "t.parquet").read_bytes()))
    found = read(path, "id", "more.K.vrh")
    assert [where for where, _ in found] == ["row 1", "row 2"]
    assert [(row["id"], tables.value(row, "more.K.vrh")) for _, row in found] == [("a", 3.0), ("b", 4.0)]
    assert "text" not in found[0][1]


def test_a_cell_longer_than_the_csv_module_takes_by_itself(tmp_path: Path) -> None:
    found = read(written(tmp_path / "t.csv", f"id,text\na,{'x' * 200_000}\n"), "id", "text")
    assert len(found[0][1]["text"]) == 200_000


def test_a_dotted_name_may_be_the_name_of_a_column() -> None:
    row: dict[str, Any] = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}}}
    assert [tables.value(row, name) for name in ("a.b", "a.c.d", "a.c.e", "a.c.d.e", "z", "z.y")] == [1, 3, *[None] * 4]


BAD = {
    "no column in CSV": ("t.csv", "id,gap\na,1\n", r"has no column 'gapp'\. Did you mean 'gap'"),
    "no column in JSON": ("t.jsonl", '{"id": "a", "gap": 1}\n' * 3, r"has no column 'gapp'\. Did you mean 'gap'"),
    "no nested column": ("t.json", '[{"id": 1, "x": {"gapp": 1}}]', r"has no column 'gapp'\. Did you mean 'x.gapp'"),
    "two columns of a name": ("t.csv", "id,gapp,gapp\na,1,2\n", "has two columns 'gapp'"),
    "comma without quotes": (
        "t.csv",
        "id,gapp\na,1\nb,1,5\n",
        r"line 3 \(it begins with 'b'\): has 3 cells, but the first row has 2",
    ),
    "empty file": ("t.csv", "", "is empty"),
    "header alone": ("t.csv", "id,gapp\n", "has no row"),
    "empty list": ("t.json", "[]", "contains no list of rows"),
    "columns of pandas": (
        "t.json",
        '{"id": {"0": "a"}, "gapp": {"0": 1}}',
        r"contains no list of "
        "rows.*orient='records'",
    ),
    "list of numbers": ("t.json", "[1, 2]", "row 1: is not an object with named columns"),
    "a row of too few": ("t.json", '{"columns": ["id", "gapp"], "data": [[1, 2], [1]]}', "row 2: has 1 values for 2"),
    "torn line": ("t.jsonl", '{"id": "a", "gapp": 1}\n{"id": "b", "ga', r"line 2: is not JSON"),
    "torn list": ("t.json", '[{"id": "a", "gapp": 1}, {"id"', "is incomplete or not JSON"),
    "not text": ("t.csv", b"id,gapp\nab\xff\xfe,1\n", "is not UTF-8 text after 'ab'"),
    "not xz": ("t.csv.xz", b"\xfd7zXZ\x00id,gapp\na,1\n", "damaged or incomplete"),
    "cut gzip": ("t.csv.gz", gzip.compress(b"id,gapp\n" + b"a,1\n" * 500)[:40], "damaged or incomplete"),
    "not Parquet": ("t.parquet", b"id,gapp\na,1\n", "cannot be read as Parquet"),
    "two columns of a name in JSON": (
        "t.json",
        '{"columns": ["id", "gapp", "gapp"], "data": [["a", 1, 2]]}',
        "has two columns 'gapp'",
    ),
    "a number with thousands of digits": ("t.json", '[{"id": "a", "gapp": ' + "1" * 5000 + "}]", "thousands of digits"),
    "the same as a line": ("t.jsonl", '{"id": "a", "gapp": ' + "1" * 5000 + "}", "line 1: is not JSON"),
    "not text in JSON": ("t.jsonl", b'{"id": "a\xb5", "gapp": 1}', "is not UTF-8 text"),
    "another kind": ("t.xlsx", b"", "not a table of a known type"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_one_clear_error_that_names_the_file(tmp_path: Path, kind: str) -> None:
    name, text, words = BAD[kind]
    with pytest.raises(DataError, match=f"{name}.*{words}"):
        read(written(tmp_path / name, text), "id", "gapp")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv cannot be read \(No such file"):
        read(tmp_path / "t.csv", "id")


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json", "t.csv.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    text = "x" * 1000
    line, n = {"t.jsonl": json.dumps({"id": text}), "t.json": json.dumps({"id": text})}.get(name, text), 12_000
    whole = f"[{','.join([line] * n)}]" if name == "t.json" else "\n".join([*(["id"] * ("csv" in name)), *[line] * n])
    path = written(tmp_path / name, gzip.compress(whole.encode()) if name.endswith("gz") else whole)
    tracemalloc.start()
    assert sum(len(row["id"]) for _, row in tables.rows(path, ["id"])) == n * 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6
