"""Preparing shard by shard: in parts, in parallel, and going on after a kill; what comes out does not depend on how."""

import dataclasses
import itertools
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import fork
from support import QUOTIENT, config, dump

from tltool.data import dataset, prepare, store
from tltool.data.adapters import alexandria
from tltool.data.dataset import Dataset
from tltool.data.graph import crystal_graphs
from tltool.data.graph.crystal_graphs import GraphTable
from tltool.errors import DataError

NAMES = [[f"agm{10 * file + n}" for n in range(5)] for file in range(3)]


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    """A folder of three files of five crystals each."""
    folder = tmp_path / "dumps"
    folder.mkdir()
    for n, names in enumerate(NAMES):
        (folder / f"alexandria_{n:03d}.json.bz2").write_bytes(dump(*names))
    return folder


def opened(root: Path, cache: Path, workers: int = 1, said: list[str] | None = None) -> Dataset:
    description = config("pretrain", "data=pbe", f"data.root={root}")["data"]
    say = (said if said is not None else []).append
    return dataset.opened(description, QUOTIENT, dataset.Means(cache, [], workers, say))


def assert_same(one: Dataset, two: Dataset) -> None:
    assert list(one.store.ids) == list(two.store.ids)
    assert {k: list(v) for k, v in one.store.tags.items()} == {k: list(v) for k, v in two.store.tags.items()}
    assert one.store.labels.keys() == two.store.labels.keys()
    for name in one.store.labels:
        np.testing.assert_array_equal(one.store.label(name), two.store.label(name))
    for row in range(len(one.store)):
        for a, b in zip(one.store.crystal(row), two.store.crystal(row), strict=True):
            np.testing.assert_array_equal(a, b)
            assert np.asarray(a).dtype == np.asarray(b).dtype
    for field in dataclasses.fields(GraphTable):
        np.testing.assert_array_equal(getattr(one.graphs, field.name), getattr(two.graphs, field.name))


def test_parts_and_processes_change_nothing(dumps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = opened(dumps, tmp_path / "whole")
    assert list(whole.store.ids) == [name for names in NAMES for name in names]
    assert_same(whole, opened(dumps, tmp_path / "two", workers=2))
    monkeypatch.setattr(prepare, "PART", 2)
    assert_same(whole, opened(dumps, tmp_path / "small"))
    crystals = [whole.store.crystal(row) for row in range(len(whole.store))]
    built = crystal_graphs.build(crystals, QUOTIENT)
    for name, values in built.arrays().items():
        np.testing.assert_array_equal(getattr(whole.graphs, name), values)


def test_a_damaged_file_leaves_the_others_prepared(dumps: Path, tmp_path: Path) -> None:
    good = (dumps / "alexandria_001.json.bz2").read_bytes()
    (dumps / "alexandria_001.json.bz2").write_bytes(good[: len(good) // 2])
    with pytest.raises(
        DataError, match=r"alexandria_001\.json\.bz2 is damaged .* \(1 of 3 files could not be prepared"
    ):
        opened(dumps, tmp_path / "cache")
    (dumps / "alexandria_001.json.bz2").write_bytes(good)
    said: list[str] = []
    assert len(opened(dumps, tmp_path / "cache", said=said).store) == 15
    assert [line for line in said if "of 3 files" in line] == [
        "alexandria_001.json.bz2: 5 kept, 1 left out (3 of 3 files)"
    ]


def test_a_store_says_where_it_came_from(dumps: Path, tmp_path: Path) -> None:
    from hashlib import sha256

    opened(dumps, tmp_path / "cache")
    for file in sorted(dumps.iterdir()):
        (place,) = (p for p in (tmp_path / "cache").rglob(f"{file.name}-*.h5") if ".graphs." not in p.name)
        about = store.load(place).attributes
        assert about["file"] == file.name
        assert about["sha256"] == sha256(file.read_bytes()).hexdigest()
        assert (about["kept"], about["dropped"]) == ("5", '{"no structure": 1}')
        assert about["adapter"] == "tltool.data.adapters.alexandria.read"
        assert all(about[key] for key in ("name", "address", "licence", "citation", "functional"))


def test_a_repeated_id_in_one_file_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "alexandria_000.json.bz2"
    file.write_bytes(dump("agm1", "agm2", "agm1"))
    records = opened(file, tmp_path / "cache").store
    assert list(records.ids) == ["agm1", "agm2"]
    assert "the id occurred before" in records.attributes["dropped"]


def test_labels_and_tags_that_only_some_parts_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tltool.data import memory_mapped
    from tltool.data.record import Crystal, Record

    cube = Crystal(3 * np.eye(3), np.zeros((1, 3)), np.array([29]))
    kinds = [({"gap": 1.0}, {}), ({"e_form": 2.0}, {"mat_id": "é2"}), ({"gap": 3.0}, {})]
    places = []
    for n, (labels, tags) in enumerate(kinds):
        records = store.gather([Record(f"r{n}", cube, labels, tags)], {})
        places.append((tmp_path / f"{n}.h5", tmp_path / f"{n}.graphs.h5"))
        store.save(places[-1][0], records)
        store.write_arrays(places[-1][1], crystal_graphs.build([cube], QUOTIENT).arrays(), {}, {})
    assert memory_mapped.join(places, tmp_path / "joined") == 0
    records, table, _ = memory_mapped.opened(tmp_path / "joined", {})
    np.testing.assert_array_equal(records.label("gap"), [1, np.nan, 3])
    np.testing.assert_array_equal(records.label("e_form"), [np.nan, 2, np.nan])
    assert list(records.tags["mat_id"]) == ["", "é2", ""]
    assert records.ids[-1] == "r2"
    assert records.ids[1:] == ["r1", "r2"]
    assert len(table) == 3
    taken = store.taken(records, np.array([2, 0]))
    assert taken.ids == ["r2", "r0"]
    np.testing.assert_array_equal(taken.label("gap"), [3, 1])

    file = next(path for path in (tmp_path / "joined").iterdir() if path.suffix == ".bin" and path.stat().st_size > 8)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged"):
        memory_mapped.opened(tmp_path / "joined", {})


def test_taken_graphs_are_the_graphs_of_those_crystals(crystals: list) -> None:
    table = crystal_graphs.build(crystals, QUOTIENT)
    rows = np.array([7, 3, 3, 50])
    expected = crystal_graphs.build([crystals[row] for row in rows], QUOTIENT)
    for name, values in crystal_graphs.taken(table, rows).arrays().items():
        np.testing.assert_array_equal(values, getattr(expected, name))


@pytest.mark.parametrize(("at", "finished"), [(4, 0), (16, 2)])
def test_a_kill_loses_no_finished_file(
    dumps: Path, tmp_path: Path, at: int, finished: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill as the entry number ``at`` is read, with two crystals in a part and six entries in a file."""
    monkeypatch.setattr(prepare, "PART", 2)
    cache, there = tmp_path / "cache", tmp_path / "there"
    numbers, real = itertools.count(1), alexandria.read

    def read(*args: Any, **keys: Any) -> Iterator[Any]:
        for item in real(*args, **keys):
            if next(numbers) == at:
                there.touch()
                signal.pause()
            yield item

    def work() -> None:
        read.__module__ = real.__module__
        alexandria.read = read
        opened(dumps, cache)

    process = fork(work, tmp_path)
    waited = time.monotonic() + 60
    while not there.exists() and time.monotonic() < waited and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    assert list(cache.rglob("alexandria_00*-00000.h5")), "of the first file a part is there"
    assert len(list(cache.rglob("alexandria_00*.json"))) == finished
    said: list[str] = []
    assert_same(opened(dumps, tmp_path / "other"), opened(dumps, cache, said=said))
    assert sum("of 3 files" in line for line in said) == 3 - finished
    assert not list(cache.rglob(".*.tmp"))
