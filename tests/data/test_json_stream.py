"""JSON read item by item gives what json.loads gives, wherever the pieces end."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.data import json_stream
from tltool.errors import DataError

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(), st.lists(scalars, max_size=2), max_size=2)


@given(st.lists(values, max_size=4), st.dictionaries(st.text(), values, max_size=3), st.integers(1, 40), st.booleans())
def test_against_json(
    tmp_path_factory: pytest.TempPathFactory, rows: list, more: dict, piece: int, indented: bool
) -> None:
    whole = {key: value for key, value in more.items() if key != "data"} | {"data": rows, "last": 12}
    file = tmp_path_factory.getbasetemp() / "stream.json"
    file.write_text(json.dumps(whole, indent=1 if indented else None), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_PIECE", piece)
        found = list(json_stream.members(file, "data"))
    assert [value for key, value in found if key == "data"] == rows
    assert {key: value for key, value in found if key != "data"} == {k: v for k, v in whole.items() if k != "data"}


@pytest.mark.parametrize("number", ["1.5", "-0.25e+10", "12E-3", "1e5", "700", "-3"])
def test_a_number_that_a_piece_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    (tmp_path / "n.json").write_text(f'{{"n":{number}, "data":[{number},{number}]}}')
    for piece in range(1, 20):
        monkeypatch.setattr(json_stream, "_PIECE", piece)
        found = [value for _, value in json_stream.members(tmp_path / "n.json", "data")]
        assert found == [json.loads(number)] * 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "ends early"),
        ("[1]", "{ is missing"),
        ('{"data": [1, 2', "ends early"),
        ('{"data": [1 2]}', ", is missing"),
        ('{"data": 3}', r"\[ is missing"),
        ('{"data": [1]', "ends early"),
        ('{"data": [nothing]}', "Expecting value"),
        ('{1: 2}', "a key is no word"),
        ('{"data": []} 7', "something follows it"),
        ('{"deep": ' + "[" * 100_000, "recursion|Expecting"),
    ],
)  # fmt: skip
def test_what_is_no_such_object(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(DataError, match=rf"bad\.json is not the JSON object it should be \(.*({says})"):
        list(json_stream.members(tmp_path / "bad.json", "data"))


def test_a_value_without_end_and_other_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_LONGEST", 1000)
    monkeypatch.setattr(json_stream, "_PIECE", 100)
    (tmp_path / "long.json").write_text('{"data": ["' + "x" * 5000)
    with pytest.raises(DataError, match="more than 1,000 characters"):
        list(json_stream.members(tmp_path / "long.json", "data"))
    (tmp_path / "bytes.json").write_bytes(b'{"data": ["\xff\xfe"]}')
    with pytest.raises(DataError, match="utf-8"):
        list(json_stream.members(tmp_path / "bytes.json", "data"))
