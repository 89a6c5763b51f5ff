"""Fast paths are optional: without them tltool trains, transfers and evaluates, and predicts the same to 1e-5."""

import importlib
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from forks import fork, import_from
from support import ROOT

pytestmark = pytest.mark.slow

OPTIONAL = {
    "kernels": ["model/kernels"],
    "sweep": ["sweep"],
    "CUDA graphs": ["training/cuda_graphs.py"],
    "all": ["model/kernels", "sweep", "training/cuda_graphs.py"],
}
ENCODERS = {
    "cgcnn": [],
    "megnet": ["encoder=megnet", "graph=megnet", "readout=set2set"],
    "alignn": ["encoder=alignn_small", "graph=angles"],
}


def run(home: Path, package: Path, commands: dict[str, list[list[str]]]) -> None:
    """Run the ``commands`` of each folder of ``home`` with the tltool in ``package``, in a process of its own."""

    def work() -> None:
        import_from(package)
        cli = importlib.import_module("tltool.cli")
        for folder, several in commands.items():
            (home / folder).mkdir(parents=True)
            os.chdir(home / folder)
            for words in several:
                code = cli._answer(words)
                assert code == 0, f"{words} ended with {code}"

    process = fork(work, home)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said


def copy_of(package: Path, without: list[str]) -> Path:
    """Copy tltool and its YAML files to the folder ``package``, some parts left out."""
    shutil.copytree(ROOT / "tltool", package / "tltool", ignore=shutil.ignore_patterns("__pycache__", "configs"))
    shutil.copytree(ROOT / "configs", package / "tltool" / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    for part in without:
        path = package / "tltool" / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return package


def predictions(folder: Path) -> pd.DataFrame:
    (run_folder,) = (path.parent for path in folder.rglob("predictions.csv"))
    return pd.read_csv(run_folder / "predictions.csv").sort_values(["id", "quantity"]).reset_index(drop=True)


FEW = ["threads=1", "fit.epochs=1", "fit.batch_size=64", "split.train_size=64"]


def training(*words: str) -> list[list[str]]:
    return [
        ["pretrain", "data=dielectric", "quantities=[gap]", "runs=runs", *FEW, *words],
        ["transfer", "target=bulk_modulus", "mode=finetune", "runs=runs", *FEW],
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of each encoder, trained with all parts in place: folders named after the encoders."""
    home = tmp_path_factory.mktemp("whole")
    package = copy_of(home / "package", [])
    run(home, package, {name: [*training(*words), ["eval", "runs=runs"]] for name, words in ENCODERS.items()})
    return home


@pytest.mark.parametrize("part", OPTIONAL)
def test_without_an_optional_part_all_goes_on(part: str, whole: Path, tmp_path: Path) -> None:
    package = copy_of(tmp_path / "package", OPTIONAL[part])
    # Without tltool/sweep the runs of a sweep follow each other.
    seeds = ["transfer", "-m", "target=bulk_modulus", "mode=finetune", "seed=0,1", "runs=several", *FEW]
    encoders = ENCODERS if part == "kernels" else {"cgcnn": ENCODERS["cgcnn"]}
    commands = {}
    for name, words in encoders.items():
        (trained,) = (file.parent for file in (whole / name / "runs" / "transfer").rglob("model/manifest.json"))
        commands[name] = [*training(*words), ["eval", "runs=runs"], ["eval", "runs=again", f"model={trained}"]]
        if "sweep" in OPTIONAL[part]:
            commands[name].append([*seeds, f"source={trained}"])
    run(tmp_path, package, commands)
    for name in encoders:
        expected = predictions(whole / name / "runs" / "eval")
        if "sweep" in OPTIONAL[part]:
            assert len(list((tmp_path / name / "several").rglob("model/manifest.json"))) == 2
        found = predictions(tmp_path / name / "again")
        assert found.id.tolist() == expected.id.tolist()
        size = float(np.abs(expected.prediction).max())
        assert float(np.abs(found.prediction - expected.prediction).max()) < 1e-5 * size
        # Trained without the part, too: a step of training rounds otherwise, and so do those that follow.
        own = predictions(tmp_path / name / "runs" / "eval")
        assert float(np.abs(own.prediction - expected.prediction).max()) < 1e-3 * size
