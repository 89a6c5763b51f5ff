"""Tables of graphs taken apart and put together, and what graph settings accept and say."""

import dataclasses

import numpy as np
import pytest
from support import FULL, QUOTIENT

from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ConfigError, DataError

ANGLES = dataclasses.replace(FULL, cutoff=5.0, angles=True)


@pytest.mark.parametrize("graph_settings", [QUOTIENT, FULL, ANGLES], ids=["quotient", "full", "angles"])
def test_rows_taken_are_the_graphs_of_those_crystals(
    graph_settings: crystal_graphs.GraphSettings, crystals: list[Crystal]
) -> None:
    some = crystals[:6]
    rows = np.array([4, 0, 5, 4])
    taken = crystal_graphs.taken(crystal_graphs.build(some, graph_settings), rows)
    built = crystal_graphs.build([some[row] for row in rows], graph_settings)
    assert len(taken) == 4
    assert (taken.line is None) == (not graph_settings.angles)
    mine, its = taken.arrays(), built.arrays()
    assert mine.keys() == its.keys()
    for name in its:
        np.testing.assert_array_equal(mine[name], its[name], err_msg=name)
    again = crystal_graphs.from_arrays(mine)
    assert {name: array.tolist() for name, array in again.arrays().items()} == {
        name: array.tolist() for name, array in mine.items()
    }


def test_a_table_without_an_array_names_it(crystals: list[Crystal]) -> None:
    arrays = crystal_graphs.build(crystals[:2], FULL).arrays()
    del arrays["distance"], arrays["volume"]
    with pytest.raises(DataError, match=r"The graph file lacks distance, volume; delete it"):
        crystal_graphs.from_arrays(arrays)


@pytest.mark.parametrize(("keys", "fine"), [
    ({"cutoff": 0.5}, True),
    ({"cutoff": 0.0}, False),
    ({"cutoff": -1.0}, False),
    ({"cutoff": float("nan")}, False),
    ({"max_neighbours": 1}, True),
    ({"max_neighbours": None}, True),
    ({"max_neighbours": 0}, False),
])  # fmt: skip
def test_graph_settings_take_positive_numbers(keys: dict[str, float | None], fine: bool) -> None:
    if fine:
        assert dataclasses.replace(FULL, **keys) != FULL
    else:
        with pytest.raises(ConfigError, match="cutoff and max_neighbours must be positive"):
            dataclasses.replace(FULL, **keys)


def test_differences_name_both_sides_and_any_changes_the_key() -> None:
    assert QUOTIENT.differences(QUOTIENT) == []
    other = dataclasses.replace(QUOTIENT, cutoff=6.0, shells="strict")
    assert QUOTIENT.differences(other) == [
        "cutoff=8.0, but the source model has cutoff=6.0",
        "shells=shared, but the source model has shells=strict",
    ]
    changes = [{"cutoff": 6.0}, {"max_neighbours": 11}, {"shells": "whole"}, {"quotient": False}, {"angles": True}]
    keys = [dataclasses.replace(QUOTIENT, **change).key() for change in changes]
    assert len({QUOTIENT.key(), *keys}) == 6
    assert len(QUOTIENT.key()) == 12
    assert QUOTIENT.key() == dataclasses.replace(QUOTIENT).key()


def test_progress_hears_of_each_block(crystals: list[Crystal], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, graph_settings in (("_CHUNK", FULL), ("_CHUNK_WITH_ANGLES", ANGLES)):
        monkeypatch.setattr(crystal_graphs, name, 3)
        for count, expected in ((7, [3, 6, 7]), (6, [3, 6]), (2, [2])):
            seen: list[int] = []
            assert len(crystal_graphs.build(iter(crystals[:count]), graph_settings, seen.append)) == count
            assert seen == expected
    nothing = crystal_graphs.build([], FULL)
    assert len(nothing) == 0


def test_volumes_are_those_of_a_site(crystals: list[Crystal]) -> None:
    table = crystal_graphs.build(crystals[:5], QUOTIENT)
    sizes = [abs(np.linalg.det(c.lattice)) / len(c.numbers) for c in crystals[:5]]
    np.testing.assert_allclose(table.volume, sizes)
