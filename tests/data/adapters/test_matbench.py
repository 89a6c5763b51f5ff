"""Matbench's files, made here in their genuine layout: ids, units, what is left out and what is refused."""

import gzip
import hashlib
import json
from pathlib import Path

import genuine
import numpy as np
import pytest
from scripted_server import serving, whole
from support import QUOTIENT, ROOT, config

from tltool import instantiate
from tltool.data import dataset
from tltool.data.adapters.matbench import read
from tltool.data.formats import label_columns
from tltool.data.matbench_folds import TASKS
from tltool.data.record import Dropped, Record
from tltool.errors import DataError
from tltool.quantities import shipped

PHONONS = {"task": "matbench_phonons", "column": "last phdos peak", "quantity": "phonon_peak"}
COLUMNS = ["structure", "last phdos peak"]


def structure(second: str = "Cl", **changes: object) -> dict:
    """A caesium chloride structure as pymatgen 2019 wrote it."""
    sites = [
        {"species": [{"element": name, "occu": 1}], "abc": [x] * 3, "xyz": [4 * x] * 3, "label": name, "properties": {}}
        for name, x in (("Cs", 0.0), (second, 0.5))
    ]
    lattice = {"matrix": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]], "a": 4.0, "b": 4.0, "c": 4.0, "volume": 64.0}
    kind = {"@module": "pymatgen.core.structure", "@class": "Structure", "charge": None, "@version": "2019.7.30"}
    return kind | {"lattice": lattice, "sites": sites} | changes


def table(*rows: list, index: list | None = None, columns: list = COLUMNS) -> dict:
    return {"index": list(range(len(rows))) if index is None else index, "columns": columns, "data": list(rows)}


def written(folder: Path, content: object, name: str = "matbench_phonons.json.gz") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    return path


def found(path: Path, **keys: str) -> list[Record | Dropped]:
    return list(read(path, file="matbench_phonons.json.gz", **PHONONS | keys))


def test_columns_go_by_name_and_ids_by_the_index(tmp_path: Path) -> None:
    written(tmp_path, table([structure(), 98.5], [structure("Br"), 120], index=[0, 41]))
    first, second = found(tmp_path)
    assert isinstance(second, Record)
    assert (first.id, second.id) == ("mb-phonons-0001", "mb-phonons-0042")
    assert second.labels == {"phonon_peak": 120.0}
    assert second.crystal.numbers.tolist() == [55, 35]
    turned = table([98.5, structure()], [120, structure("Br")], index=[0, 41], columns=COLUMNS[::-1])
    path = written(tmp_path, dict(reversed(turned.items())), "other.json.gz")  # data before columns and index
    assert [r.id for r in found(path)] == [first.id, second.id]
    assert [r.labels for r in found(path) if isinstance(r, Record)] == [{"phonon_peak": 98.5}, {"phonon_peak": 120.0}]


def test_bad_rows_are_counted(tmp_path: Path) -> None:
    mixed = structure()
    mixed["sites"][0]["species"] = [{"element": "Cs", "occu": 0.5}, {"element": "Rb", "occu": 0.5}]
    flat = structure(lattice={"matrix": [[0, 0, 0]] * 3})
    rows = [[None, 1.0], [mixed, 1.0], [flat, 1.0], [structure(sites=[]), 1.0]]
    rows += [[structure(), value] for value in (None, "high", True, float("nan"), float("inf"))]
    results = found(written(tmp_path, table(*rows, [structure(), 7])))
    reasons = [r.reason for r in results if isinstance(r, Dropped)]
    assert reasons[:4] == ["no structure", "partly occupied sites", *["unusable structure"] * 2]
    assert reasons[4:] == ["no label", "phonon_peak is not a number", "phonon_peak is not a number", "no label",
                           "phonon_peak is infinite"]  # fmt: skip
    assert [r.id for r in results if isinstance(r, Record)] == ["mb-phonons-0010"]


def test_classes_are_one_and_nought(tmp_path: Path) -> None:
    rows = [[structure(), value] for value in (True, False, 1, None)]
    path = written(tmp_path, table(*rows, columns=["structure", "is_metal"]))
    results = found(path, column="is_metal", quantity="is_metal", task="matbench_mp_is_metal")
    assert [r.labels["is_metal"] for r in results if isinstance(r, Record)] == [1.0, 0.0, 1.0]
    assert results[0].id == "mb-mp-is-metal-000001"
    assert results[3] == Dropped("mb-mp-is-metal-000004", "no label")


def test_a_file_of_ones_own_in_this_layout(tmp_path: Path) -> None:
    path = written(tmp_path, table(*[[structure(), 1.0]] * 12))
    assert [r.id for r in found(path, task="mine")][-1] == "mb-mine-12"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (table([structure(), 1.0], columns=["structure", "n"]), "no column 'last phdos peak' .columns"),
        (table([structure(), 1.0, 2.0], columns=[*COLUMNS, COLUMNS[1]]), "has two columns 'last phdos peak'"),
        (table([98.5], columns=["last phdos peak"]), "no column 'structure' .columns"),
        (table([structure(), 1.0], index=[1265]), "has a row 1265, but matbench_phonons has only 1,265 rows"),
        (table([structure(), 1.0], [structure(), 2.0], index=[3, 3]), "different row numbers"),
        (table([structure(), 1.0], index=["mp-1"]), "different row numbers"),
        (table([structure(), 1.0], index=[0, 1]), "does not have the layout of Matbench"),
        (table([structure(), 1.0], index=[]), "does not have the layout of Matbench"),
        (table([structure()]), "row 0 does not match"),
        ({"columns": COLUMNS, "data": [[structure(), 1.0]]}, "does not have the layout of Matbench"),
        ([structure()], "does not have the layout of Matbench"),
    ],
)
def test_other_files(tmp_path: Path, content: object, says: str) -> None:
    with pytest.raises(DataError, match=rf"matbench_phonons\.json\.gz.*{says}"):
        found(written(tmp_path, content))


def test_a_file_cut_short_and_a_bomb(tmp_path: Path) -> None:
    path = written(tmp_path, table(*[[structure(), float(row)] for row in range(300)]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged or incomplete"):
        found(path)
    path.write_bytes(gzip.compress(b'{"index": [' + b" " * 150_000_000, compresslevel=1))
    with pytest.raises(DataError, match="has more than"):
        found(path)


def description(*words: str) -> dict:
    return config("transfer", "target=matbench_phonons", *words)["target"]["data"]


def test_downloaded_checked_and_opened_again(tmp_path: Path) -> None:
    content = gzip.compress(json.dumps(table([structure(), 98.5], [None, 1.0], [structure("Br"), 120.0])).encode())
    digest, said = hashlib.sha256(content).hexdigest(), []
    how = dataset.Means(tmp_path, [], 1, said.append)
    with serving() as server:
        server.at("/projects/matbench_phonons.json.gz", whole(content))
        words = [f"target.data.address={server.address}/projects", f"target.data.sha256={digest.upper()}"]
        data = dataset.opened(description(*words), QUOTIENT, how)
        assert len(server.asked) == 1
        wrong = description(f"target.data.address={server.address}/projects/")
        with pytest.raises(DataError, match=rf"has sha256 {digest}, but data\.sha256 says 4db551f2\w+"):
            dataset.opened(wrong, QUOTIENT, how)
    assert data.store.ids == ["mb-phonons-0001", "mb-phonons-0003"]
    np.testing.assert_allclose(data.store.label("phonon_peak"), [98.5, 120.0])
    assert json.loads(data.store.attributes["dropped"]) == {"no structure": 1}
    # The server is gone; the file is there and still checked.
    assert dataset.opened(description(*words), QUOTIENT, how).store.ids == data.store.ids
    next((tmp_path / "downloads").rglob("*.json.gz")).write_bytes(content + b"x")
    with pytest.raises(DataError, match=f"sha256 .*{digest.upper()}|sha256 .*{digest}"):
        dataset.opened(description(*words), QUOTIENT, how)


def test_a_file_that_is_there_is_checked_every_time(tmp_path: Path) -> None:
    path = written(tmp_path, table([structure(), 98.5], [structure("Br"), 120.0]))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    how = dataset.Means(tmp_path / "cache", [], 1, lambda text: None)
    words = [f"target.data.root={tmp_path}", f"target.data.sha256={digest}"]
    assert len(dataset.opened(description(*words), QUOTIENT, how).store) == 2
    assert len(dataset.opened(description(f"target.data.root={path}", words[1]), QUOTIENT, how).store) == 2
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=rf"has sha256 \w+, but data\.sha256 is {digest}; download it again"):
        dataset.opened(description(*words), QUOTIENT, how)
    path.unlink()
    with pytest.raises(DataError, match=r"matbench_phonons\.json\.gz cannot be read \(No such file"):
        dataset.opened(description(words[0]), QUOTIENT, how)


def test_another_file_on_request(tmp_path: Path) -> None:
    written(tmp_path, table([structure(), 98.5], [structure("Br"), 120.0], index=[7, 9]))
    words = [f"target.data.root={tmp_path}", "target.data.sha256=null"]
    data = dataset.opened(description(*words), QUOTIENT, dataset.Means(tmp_path / "cache", [], 1, lambda text: None))
    assert data.store.ids == ["mb-phonons-0008", "mb-phonons-0010"]


@pytest.mark.parametrize("task", TASKS)
def test_the_yaml_of_each_task(task: str) -> None:
    data = config("transfer", f"target={task}")["target"]["data"]
    assert (data["name"], data["file"], data["adapter"]["file"]) == (task, f"{task}.json.gz", f"{task}.json.gz")
    assert data["adapter"]["task"] == task
    assert len(data["sha256"]) == 64
    assert data["quantities"] == [data["adapter"]["quantity"]]
    about = shipped()[data["quantities"][0]]
    assert about.is_class == TASKS[task].classes
    text = (ROOT / "configs" / "data" / f"{task}.yaml").read_text(encoding="utf-8")
    assert f"{TASKS[task].rows:,} " in text.splitlines()[0]
    assert f"({about.unit})" in text.splitlines()[0]


def test_a_whole_task_with_its_folds(tmp_path: Path) -> None:
    """All 1,265 rows, of which the official folds are made; the published file as well, where it is at hand."""
    crystals = genuine.smallest(30)
    rows = [(n, crystals[n % 30], 60.0 + 2.5 * n) for n in range(1265)]
    file = genuine.matbench(tmp_path / "matbench_phonons.json.gz", "last phdos peak", rows)
    published = genuine.PUBLISHED / file.name
    cases = [
        (file, 790.6245, "null"),
        (published, 323.7870, config("prepare", "data=matbench_phonons")["data"]["sha256"]),
    ]
    for path, spread, sha256 in cases:
        if not path.is_file():
            continue
        words = ["target=matbench_phonons", f"target.data.root={path}", f"target.data.sha256={sha256}"]
        composed = config("transfer", *words, "split=matbench")
        how = dataset.Means(tmp_path / "cache", [], 1, lambda text: None)
        records = dataset.opened(composed["target"]["data"], QUOTIENT, how).store
        assert len(records) == 1265
        peaks = records.label("phonon_peak")
        assert np.abs(peaks - peaks.mean()).mean() == pytest.approx(spread, abs=1e-3)  # 1/cm
        parts = instantiate.call(composed["split"], records, peaks)
        assert [records.ids[row] for row in parts.test[:3]] == ["mb-phonons-0002", "mb-phonons-0003", "mb-phonons-0007"]
        assert [len(part) for part in parts] == [911, 101, 253]


def test_a_part_of_a_task(tmp_path: Path) -> None:
    words = {"task": "matbench_log_kvrh", "column": "log10(K_VRH)", "quantity": "log10_K_VRH"}
    elastic = genuine.bundled("elastic")
    moduli = [float(np.log10(elastic.record(row).labels["K_VRH"])) for row in range(12)]
    rows = [(2 + 3 * row, elastic.crystal(row), value) for row, value in enumerate(moduli)]
    file = genuine.matbench(tmp_path / "matbench_log_kvrh_part.json.gz", "log10(K_VRH)", rows)
    published = genuine.PUBLISHED / file.name
    for path, n in [(file, 12)] + [(published, 5332)] * published.is_file():
        records = [r for r in map(label_columns.within, found(path, **words)) if isinstance(r, Record)]
        assert len(records) == n
        assert records[0].id == "mb-log-kvrh-00003"
        assert 1 < np.mean([10 ** r.labels["log10_K_VRH"] for r in records]) < 300  # GPa
