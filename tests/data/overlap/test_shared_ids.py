"""Ids that are shared between data sets have one number each; ids of a folder have none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tltool.data.overlap import shared_ids

REGISTERED = st.from_regex(r"(mp-|mvc-|agm|oqmd-|icsd-)[0-9]{1,15}", fullmatch=True)


@given(REGISTERED)
def test_an_id_of_a_registry_can_be_written_out_again(id: str) -> None:
    number = shared_ids.code(id)
    assert 0 < number < 1 << 63
    assert shared_ids.name(number) == id


@given(st.lists(REGISTERED, unique=True, max_size=20))
def test_different_ids_have_different_numbers(ids: list[str]) -> None:
    assert len(set(shared_ids.codes(ids, None).tolist())) == len(ids)


@pytest.mark.parametrize("id", ["1", "NaCl.cif", "mp-", "mp-12a", "Mp-149", "xmp-149", "mp-149 ", "mp-abc", ""])
def test_the_id_of_a_file_means_nothing_elsewhere(id: str) -> None:
    assert shared_ids.code(id) == 0
    assert shared_ids.name(0) == ""


def test_names_shared_on_purpose_are_hashed() -> None:
    numbers = [shared_ids.code("1", "a"), shared_ids.code("1", "b"), shared_ids.code("mb-phonons-0001")]
    assert len(set(numbers)) == 3
    assert shared_ids.is_hash(np.array(numbers, np.uint64)).all()
    assert [shared_ids.name(n) for n in numbers] == ["", "", ""]
    assert shared_ids.code("2", "a") == numbers[0]


def test_a_registry_name_in_either_place_counts() -> None:
    assert shared_ids.code("row 3", "mp-149") == shared_ids.code("mp-149", "silicon") == shared_ids.code("mp-149")


def test_materials_project_ids_in_letters_are_the_same_numbers() -> None:
    assert shared_ids.code("mp-aaaaaaft") == shared_ids.code("mp-aaaaft") == shared_ids.code("mp-149")
