"""Values come one by one and as they were, wherever the pieces that are read end."""

import io
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.data.formats import json_stream
from tltool.errors import DataError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def members(text: str, piece: int = 1 << 20) -> list[tuple[str, bool, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "PIECE", piece)
        return list(json_stream.members(io.StringIO(text), Path("a.json")))


@given(st.lists(VALUES), st.integers(1, 40), st.sampled_from([None, 2]))
def test_a_list_comes_element_by_element(values: list[Any], piece: int, indent: int | None) -> None:
    assert members(json.dumps(values, indent=indent), piece) == [("", True, value) for value in values]


@given(st.dictionaries(st.text(), VALUES), st.integers(1, 40))
def test_an_object_comes_by_key_and_its_lists_by_element(values: dict[str, Any], piece: int) -> None:
    wanted = []
    for key, value in values.items():
        wanted += [(key, True, v) for v in value] if isinstance(value, list) else [(key, False, value)]
    assert members(" \n" + json.dumps(values) + " ", piece) == wanted


def test_numbers_that_end_with_a_piece_are_whole() -> None:
    assert members("[123, 4.5e6, -7, NaN, Infinity]", 1)[:3] == [("", True, 123), ("", True, 4.5e6), ("", True, -7)]
    assert math.isnan(members("[NaN]", 2)[0][2])


@pytest.mark.parametrize(
    "text", ["", "  ", "[1, 2", '{"a": [1, 2]', '{"a"', '["abc', "[1 2]", '{"a" 1}', "[1, ]", "{1: 2"]
)
def test_what_is_cut_short_or_no_json_is_an_error_that_names_the_file(text: str) -> None:
    with pytest.raises(DataError, match=r"a\.json .*download it again"):
        members(text)


def test_a_word_is_no_json() -> None:
    with pytest.raises(DataError, match="is not JSON near 'hello'"):
        members("hello")


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    with path.open("w") as file:
        file.write("[" + ",\n".join([json.dumps({"text": "x" * 1000})] * 20_000) + "]")
    tracemalloc.start()
    with path.open() as file:
        assert sum(len(row["text"]) for _, _, row in json_stream.members(file, path)) == 20_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6
