"""Several data sets opened as one: ids, functionals, what is kept in the cache, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import QUOTIENT, config, dump

from tltool.data import dataset, origin, union
from tltool.errors import ConfigError, DataError
from tltool.evaluation import overlap_audit


def opened(description: dict[str, Any], cache: Path, said: list[str]) -> dataset.Dataset:
    return union.opened(description, QUOTIENT, dataset.Means(cache, [], 1, said.append))


@pytest.fixture
def description(tmp_path: Path) -> dict[str, Any]:
    """The YAML of all functionals of Alexandria, over dumps of a few entries; of PBE there are two files."""
    files = {
        "pbe": ["alexandria_000", "alexandria_001"],
        "pbesol": ["alexandria_ps_000"],
        "scan": ["alexandria_scan_0"],
    }
    ids = {"alexandria_000": ["agm1", "agm2"], "alexandria_001": ["agm3"], "alexandria_ps_000": ["agm3", "agm1"]}
    for part, names in files.items():
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / f"{name}.json.bz2").write_bytes(dump(*ids.get(name, ["agm4"])))
    return config("pretrain", "data=functionals", *(f"data.parts.{part}.root={tmp_path / part}" for part in files))[
        "data"
    ]


def test_records_of_all_parts_know_their_functional(description: dict[str, Any], tmp_path: Path) -> None:
    said: list[str] = []
    data = opened(description, tmp_path / "cache", said)
    assert list(data.store.ids) == ["pbe:agm1", "pbe:agm2", "pbe:agm3", "pbesol:agm3", "pbesol:agm1", "scan:agm4"]
    assert list(origin.own_ids(data.store)) == ["agm1", "agm2", "agm3", "agm3", "agm1", "agm4"]
    assert list(origin.functionals(data.store)) == ["PBE"] * 3 + ["PBEsol"] * 2 + ["SCAN"]
    np.testing.assert_allclose(data.store.label("e_form"), [0, -0.1, 0, 0, -0.1, 0], atol=1e-6)
    about = data.store.attributes
    assert (about["name"], about["functional"], about["kept"]) == ("functionals", "PBE, PBEsol, SCAN", "6")
    assert about["licence"] == "CC BY 4.0"
    assert len(about["citation"].split("; ")) == 2
    assert json.loads(about["dropped"]) == {"no structure": 4}
    assert any("Data set functionals: 6 records kept, 4 left out" in line for line in said)
    # Rows are read from the disk, and joined once: a part of several files is not joined by itself as well.
    assert isinstance(data.store.numbers.base, np.memmap)
    assert len(list((tmp_path / "cache").glob("*/joined-*"))) == 1


def test_the_graphs_are_those_of_the_parts(description: dict[str, Any], tmp_path: Path) -> None:
    data = opened(description, tmp_path / "cache", [])
    alone = opened(description["parts"]["pbesol"], tmp_path / "cache", [])
    some = slice(*data.graphs.first_node[[3, 5]])
    np.testing.assert_array_equal(data.graphs.number[some], alone.graphs.number)
    np.testing.assert_array_equal(np.diff(data.graphs.first_distance)[3:5], np.diff(alone.graphs.first_distance))


def test_what_was_prepared_is_not_prepared_again(description: dict[str, Any], tmp_path: Path) -> None:
    said: list[str] = []
    first = opened(description, tmp_path / "cache", said)
    said.clear()
    opened(description, tmp_path / "cache", said)
    for part in description["parts"].values():
        opened(part, tmp_path / "cache", said)
    assert said == []
    assert first.folder is not None
    held = dataset.at_hand(first.folder)
    assert held is not None
    assert list(held.store.ids) == list(first.store.ids)
    assert (held.key, held.store.attributes) == (first.key, first.store.attributes)

    (tmp_path / "pbe" / "alexandria_002.json.bz2").write_bytes(dump("agm9"))
    assert "pbe:agm9" in opened(description, tmp_path / "cache", said).store.ids
    assert any("7 records kept" in line for line in said)


def test_another_functional_is_another_data_set(description: dict[str, Any], tmp_path: Path) -> None:
    opened(description, tmp_path / "cache", [])
    del description["parts"]["scan"]["functional"]
    description["parts"]["pbe"]["functional"] = "PBE+U"
    again = opened(description, tmp_path / "cache", [])
    assert list(dict.fromkeys(origin.functionals(again.store))) == ["PBE+U", "PBEsol", "scan"]


def test_an_id_that_occurs_in_two_files_of_a_part_counts_once(description: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "pbe" / "alexandria_002.json.bz2").write_bytes(dump("agm2", "agm5"))
    found = opened(description, tmp_path / "cache", [])
    assert [name for name in found.store.ids if name.startswith("pbe:")] == [f"pbe:agm{n}" for n in (1, 2, 3, 5)]
    assert json.loads(found.store.attributes["dropped"])["the id is in an earlier file"] == 1


def test_the_audit_knows_crystals_by_their_own_ids(description: dict[str, Any], tmp_path: Path) -> None:
    data = opened(description, tmp_path / "cache", [])
    alone = opened(description["parts"]["pbesol"], tmp_path / "cache", [])
    seen = overlap_audit.index(data, np.array([0, 1, 2]), 1)
    assert overlap_audit.audit(seen, alone, np.arange(2), 1, []).how == ("id", "id")
    (tmp_path / "ids.csv").write_text("id\nagm3\npbe:agm1\n")
    assert overlap_audit.rows_of_ids(data.store, tmp_path / "ids.csv").tolist() == [0, 2, 3]


def test_what_is_wrong_is_named(description: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="A data set with parts has no key 'functional'"):
        opened(description | {"functional": "PBE"}, tmp_path / "cache", [])
    with pytest.raises(ConfigError, match="'functionals' has no parts"):
        opened(description | {"parts": {}}, tmp_path / "cache", [])
    description["parts"]["scan"]["root"] = str(tmp_path / "nothing")
    with pytest.raises(DataError, match="nothing does not exist"):
        opened(description, tmp_path / "cache", [])
