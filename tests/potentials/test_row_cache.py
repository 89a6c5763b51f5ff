"""Rows of crystals are computed once and found again by what is in the crystal."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.data.record import Crystal, Floats
from tltool.potentials import row_cache


def crystal(edge: float, z: int = 14, shift: float = 0.0) -> Crystal:
    return Crystal(edge * np.eye(3), np.array([[shift, 0.0, 0.0]]), np.array([z]))


def edge_of(one: Crystal) -> Floats:
    if one.numbers[0] == 2:
        raise ValueError("helium is not known")
    return np.array([one.lattice[0, 0], 1.0])


@given(st.floats(2.0, 9.0), st.integers(1, 90), st.floats(0.0, 0.9))
def test_the_digest_is_that_of_what_a_store_keeps(edge: float, z: int, shift: float) -> None:
    one = crystal(edge, z, shift)
    kept = one._replace(lattice=one.lattice.astype(np.float32).astype(np.float64))
    assert row_cache.digest(kept) == row_cache.digest(one)
    assert row_cache.digest(crystal(edge + 0.01, z, shift)) != row_cache.digest(one)
    assert row_cache.digest(crystal(edge, z + 1, shift)) != row_cache.digest(one)
    assert row_cache.digest(crystal(edge, z, shift + 0.01)) != row_cache.digest(one)


def test_rows_are_kept_and_failures_are_told(tmp_path: Path) -> None:
    some = [crystal(3.0), crystal(4.0), crystal(4.0, z=2)]
    made, failed = row_cache.computed(some, edge_of, tmp_path)
    assert {key: row.tolist() for key, row in row_cache.kept(tmp_path, 2).items()} == {
        key: row.tolist() for key, row in made.items()
    }
    assert sorted(row[0] for row in made.values()) == [3.0, 4.0]
    assert failed == {row_cache.digest(some[2]): "helium is not known"}
    # Another width is another recipe, and a damaged file is as none.
    (file,) = tmp_path.glob("*.h5")
    file.write_bytes(file.read_bytes()[:-40])
    assert row_cache.kept(tmp_path, 2) == {}
    assert not list(tmp_path.glob("*.h5"))
    assert row_cache.computed([], edge_of, tmp_path) == ({}, {})


def test_what_was_computed_before_an_error_is_kept(tmp_path: Path) -> None:
    def ends(one: Crystal) -> Floats:
        if one.lattice[0, 0] > 5.0:
            raise KeyboardInterrupt
        return edge_of(one)

    with pytest.raises(KeyboardInterrupt):
        row_cache.computed([crystal(3.0), crystal(6.0), crystal(4.0)], ends, tmp_path)
    assert [row[0] for row in row_cache.kept(tmp_path, 2).values()] == [3.0]
