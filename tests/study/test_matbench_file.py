"""Results files of Matbench: what its package asks of one, checked by its rules."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from study_rows import row

from tltool.data import matbench_folds
from tltool.data.matbench_folds import TASKS, official_id
from tltool.study import matbench_file

TASK = "matbench_jdft2d"
IDS = {fold: [official_id(TASK, int(n), TASKS[TASK].rows) for n in test]
       for fold, test in enumerate(matbench_folds.tests_of(TASKS[TASK].rows, None))}  # fmt: skip


def fold(folder: Path, number: int, ids: list[str]) -> Any:
    """Return the finished cell of a fold whose predictions are 1.5 for labels of 1 and 2."""
    folder.mkdir()
    lines = [f"{name},test,gap,{1 + k % 2},1.5,Na Cl," for k, name in enumerate(ids)]
    header = "id,split,quantity,label,prediction,elements,unseen_elements"
    (folder / "predictions.csv").write_text("\n".join([header, *lines]))
    found = row("tuned", 500, number, 0.5, folder=folder, split="official")
    kind = found.cell.kind._replace(size=None)
    return found._replace(cell=found.cell._replace(kind=kind), run=found.run._replace(fold=number, data=TASK))


def test_the_file_follows_the_rules_of_the_package(tmp_path: Path) -> None:
    rows = [fold(tmp_path / str(k), k, ids) for k, ids in IDS.items()]
    [path] = matbench_file.write(rows, tmp_path / "matbench")
    content = json.loads(gzip.decompress(path.read_bytes()))
    assert set(content) == {
        "@module",
        "@class",
        "version",
        "benchmark_name",
        "tasks",
        "user_metadata",
        "datestamp",
        "hash",
    }
    task = content["tasks"][TASK]
    assert set(task) == {"@module", "@class", "benchmark_name", "dataset_name", "results"}
    assert task["benchmark_name"] == content["benchmark_name"] == "matbench_v0.1"
    assert task["dataset_name"] == TASK
    for number, ids in IDS.items():
        found = task["results"][f"fold_{number}"]
        assert set(found) == {"data", "parameters", "scores"}
        assert set(found["data"]) == set(ids)
        assert all(isinstance(value, float) for value in found["data"].values())
        assert set(found["scores"]) == {"mae", "rmse", "mape", "max_error"}
        assert (found["scores"]["mae"], found["scores"]["rmse"], found["scores"]["max_error"]) == (0.5, 0.5, 0.5)
        np.testing.assert_allclose(found["scores"]["mape"], 0.375, atol=0.002)
    # The package sorts the keys of every dictionary, dumps it and takes its sha256.
    own = content.pop("hash")
    assert own == hashlib.sha256(json.dumps(sort(content)).encode()).hexdigest()


def sort(node: Any) -> Any:
    return {key: sort(node[key]) for key in sorted(node)} if isinstance(node, dict) else node


def test_without_all_folds_and_rows_there_is_no_file(tmp_path: Path) -> None:
    rows = [fold(tmp_path / str(k), k, ids) for k, ids in IDS.items()]
    assert matbench_file.write(rows[:4], tmp_path / "matbench") == []
    short = fold(tmp_path / "short", 4, IDS[4][1:])
    assert matbench_file.write([*rows[:4], short], tmp_path / "matbench") == []
    assert not (tmp_path / "matbench").exists()
