"""Rows of weight zero are tested, and in no training part."""

from dataclasses import replace

import numpy as np
import pytest
from support import store_of

from tltool.data.batches import row_weights
from tltool.data.formats.rows.further_columns import WEIGHT
from tltool.data.split_folds import Fold, Folds
from tltool.data.splits import Split
from tltool.data.store import Store
from tltool.errors import DataError


def weighted(*words: str) -> Store:
    return replace(store_of([str(k) for k in range(len(words))]), tags={WEIGHT: list(words)})


def rows(*of: int) -> np.ndarray:
    return np.array(of, dtype=np.int64)


def test_rows_of_weight_zero_are_only_tested() -> None:
    records = weighted("1", "0", "2.5", "0", "0", "1")
    np.testing.assert_array_equal(row_weights.column(records, WEIGHT), [1, 0, 2.5, 0, 0, 1])
    split = Split(rows(0, 1), rows(2, 3), rows(4, 5))
    found, none = row_weights.learnt(split, records)
    assert none == 3
    assert [part.tolist() for _, part in found.items()] == [[0], [2], [4, 5]]
    folds = Folds([Fold(0, 0, split)], split, "none")
    found, _ = row_weights.learnt(folds, records)
    assert [part.tolist() for _, part in found.parts[0].split.items()] == [[0], [2], [4, 5]]
    assert found.whole.train.tolist() == [0]


def test_without_weights_nothing_changes_and_without_any_weight_there_is_no_training() -> None:
    split = Split(rows(0), rows(), rows(1))
    assert row_weights.learnt(split, store_of(["a", "b"])) == (split, 0)
    with pytest.raises(DataError, match="Every training row has the weight zero"):
        row_weights.learnt(split, weighted("0", "1"))
