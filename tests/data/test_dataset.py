"""Opening a data set: from a loopback server, from a folder, from the cache; and what is said of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from scripted_server import autoindex, serving, status, whole
from support import QUOTIENT, config, dump

from tltool.data import dataset
from tltool.data.batches import batches
from tltool.data.record import formula
from tltool.data.splits import Split
from tltool.errors import ConfigError, DataError, ResourceError


def opened(description: dict, cache: Path, said: list[str]) -> dataset.Dataset:
    return dataset.opened(description, QUOTIENT, dataset.Means(cache, [], 1, said.append))


def test_alexandria_from_a_server_then_without_one(tmp_path: Path) -> None:
    said: list[str] = []
    with serving() as server:
        names = ["alexandria_00000.json.bz2", "alexandria_00001.json.bz2"]
        address = server.at("/pbe/", autoindex(*names, "alexandria_2d_000.json.bz2", "convex_hull.json.bz2"))
        server.at(f"/pbe/{names[0]}", whole(dump("agm1", "agm2")))
        server.at(f"/pbe/{names[1]}", whole(dump("agm3")))
        description = config("pretrain", "data=pbe", f"data.address={address}")["data"]
        first = opened(description, tmp_path, said)
    assert list(first.store.ids) == ["agm1", "agm2", "agm3"]
    assert json.loads(first.store.attributes["dropped"]) == {"no structure": 2}
    assert first.store.attributes["address"] == address
    np.testing.assert_allclose(first.store.label("e_form"), [0, -0.1, 0], atol=1e-6)
    assert any("3 records kept, 2 left out" in line for line in said)

    # The server is gone: the same data set opens from what was downloaded and prepared.
    said.clear()
    again = opened(description, tmp_path, said)
    assert list(again.store.ids) == list(first.store.ids)
    assert said == []


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLTOOL_OFFLINE", "1")
    description = config("pretrain", "data=scan")["data"]
    with pytest.raises(DataError, match=r"alexandria_scan_.*https://alexandria\.icams\.rub\.de/data/scan"):
        opened(description, tmp_path, [])


def test_a_page_that_is_not_there(tmp_path: Path) -> None:
    with serving() as server:
        address = server.at("/old/", status(404))
        description = config("pretrain", "data=pbe", f"data.address={address}")["data"]
        with pytest.raises(DataError, match="404"):
            opened(description, tmp_path, [])


def test_a_local_folder_and_a_change_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    folder.mkdir()
    (folder / "alexandria_000.json.bz2").write_bytes(dump("agm1"))
    description = config("pretrain", "data=pbe", f"data.root={folder}")["data"]
    assert opened(description, tmp_path / "cache", []).store.ids == ["agm1"]
    (folder / "alexandria_001.json.bz2").write_bytes(dump("agm2"))
    assert list(opened(description, tmp_path / "cache", []).store.ids) == ["agm1", "agm2"]
    (folder / "alexandria_002.json.bz2").write_bytes(dump("agm2", "agm3"))
    said: list[str] = []
    again = opened(description, tmp_path / "cache", said).store
    assert list(again.ids) == ["agm1", "agm2", "agm3"]
    assert again.attributes["kept"] == "3"
    assert json.loads(again.attributes["dropped"]) == {"no structure": 3, "the id is in an earlier file": 1}
    assert sum("kept," in line and "of 3 files" in line for line in said) == 1  # the other two were there


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    description = config("pretrain")["data"]
    with pytest.raises(ConfigError, match=r"no key data\.rooot"):
        opened(description | {"rooot": 1}, tmp_path, [])
    with pytest.raises(DataError, match="does not exist"):
        opened(description | {"root": str(tmp_path / "nothing")}, tmp_path, [])
    with pytest.raises(DataError, match="no address to download from"):
        opened(description | {"root": None}, tmp_path, [])


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="Cannot write to cache"):
        opened(config("pretrain")["data"], tmp_path / "file" / "cache", [])


def test_formulas_of_two_files_are_one_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "a.csv").write_text("id,formula,label\nx,Fe0.7Ni0.3,1\ny,Al2O3,2\n")
    (folder / "b.csv").write_text("id,formula,label\nz,LiF,3\ny,MgO,2\n")
    description = config(
        "pretrain", "data=formulas", f"data.root={folder}", "data.quantities=[label]", "data.define={label: {unit: eV}}"
    )["data"] | {"pattern": "*.csv"}
    for _ in range(2):
        found = opened(description, tmp_path / "cache", [])
        assert list(found.store.ids) == ["x", "y", "z"]
        assert [formula(c.numbers, c.amounts) for c in map(found.store.crystal, range(3))] == ["Fe7Ni3", "Al2O3", "LiF"]
        np.testing.assert_allclose(found.graphs.multiplicity, [0.7, 0.3, 3, 2, 1, 1])
        assert len(found.graphs.neighbour) == 0
    whole = Split(np.arange(3), np.empty(0, np.int64), np.empty(0, np.int64))
    assert batches.batches(found, ["label"], whole).bare
