from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.data import splits
from tltool.data.splits import Split
from tltool.errors import ConfigError, DataError


@given(st.integers(20, 300), st.integers(0, 99), st.data())
def test_parts_are_disjoint_nested_and_keep_the_test_rows(n: int, seed: int, data: st.DataObject) -> None:
    ids = [str(k) for k in range(n)]
    labels = np.where(np.arange(n) % 7 == 3, np.nan, 1.0)
    whole = splits.random(ids, labels, seed=seed, val=0.1, test=0.1, train_size=None)
    size = data.draw(st.integers(1, len(whole.train)))
    small = splits.random(ids, labels, seed=seed, val=0.1, test=0.1, train_size=size)
    rows = np.concatenate(whole)
    assert sorted(rows) == np.flatnonzero(np.isfinite(labels)).tolist()
    assert len(small.train) == size
    assert small.train.tolist() == whole.train[:size].tolist()
    assert small.val.tolist() == whole.val[: len(small.val)].tolist()
    assert small.test.tolist() == whole.test.tolist()


def test_what_cannot_be_split() -> None:
    ids, labels = [str(k) for k in range(30)], np.ones(30)
    with pytest.raises(ConfigError, match="fractions"):
        splits.random(ids, labels, seed=0, val=0.6, test=0.5, train_size=None)
    with pytest.raises(ConfigError, match="train_size=25"):
        splits.random(ids, labels, seed=0, val=0.1, test=0.1, train_size=25)
    with pytest.raises(DataError, match="split is empty"):
        splits.random(ids, np.full(30, np.nan), seed=0, val=0.1, test=0.1, train_size=None)
    with pytest.raises(DataError, match="val split is empty"):
        splits.random(ids[:4], np.ones(4), seed=0, val=0.1, test=0.1, train_size=None)
    with pytest.raises(DataError, match="two parts"):
        splits.checked(Split(np.array([1]), np.array([1]), np.array([2])), 3, needs_val=False)


def test_a_split_file(tmp_path: Path) -> None:
    ids, labels = ["a", "b", "c"], np.array([1.0, np.nan, 1.0])
    file = tmp_path / "split.csv"
    file.write_text("id,split\na,train\nb,train\nc,test\n")
    parts = splits.by_ids(ids, labels, file=str(file))
    assert [p.tolist() for p in parts] == [[0], [], [2]]
    file.write_text("id,split\nz,train\n")
    with pytest.raises(DataError, match="no id 'z'"):
        splits.by_ids(ids, labels, file=str(file))
    file.write_text("id,part\na,train\n")
    with pytest.raises(DataError, match="columns id and split"):
        splits.by_ids(ids, labels, file=str(file))
    with pytest.raises(DataError, match=r"missing\.csv"):
        splits.by_ids(ids, labels, file=str(tmp_path / "missing.csv"))
