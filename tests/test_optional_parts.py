"""Fast paths are optional: without them tltool trains, transfers and evaluates, and predicts the same to 1e-5."""

import importlib
import os
import shutil
from pathlib import Path

import commands
import numpy as np
import pandas as pd
import pytest
from forks import fork, import_from
from support import ROOT

from tltool.data.download.locate import BUNDLED

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
    """Copy tltool and its YAML files to the folder ``package``, some parts left out.

    The bundled data are those of the original, so that they are prepared already.
    """
    others = shutil.ignore_patterns("__pycache__", "configs", "bundled")
    shutil.copytree(ROOT / "tltool", package / "tltool", ignore=others)
    (package / "tltool" / "data" / "bundled").symlink_to(BUNDLED.resolve())
    shutil.copytree(ROOT / "configs", package / "tltool" / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    for part in without:
        path = package / "tltool" / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return package


def folder_of(place: Path) -> Path:
    """Return the run folder of the only run below ``place``."""
    (found,) = (path.parent for path in place.rglob("predictions.csv"))
    return found


def predictions(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "predictions.csv").sort_values(["id", "quantity"]).reset_index(drop=True)


FEW = ["threads=1", "fit.epochs=1", "fit.batch_size=64", "split.train_size=64"]
PRETRAIN = ["pretrain", "data=dielectric", "quantities=[gap]", "runs=runs", *FEW]
TRANSFER = ["transfer", "target=bulk_modulus", "mode=finetune", "runs=runs", *FEW]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of each encoder, trained with all parts in place: folders named after the encoders."""
    home = tmp_path_factory.mktemp("whole")
    for name, words in ENCODERS.items():
        (home / name).mkdir()
        commands.run(home / name, *PRETRAIN, *words)
        commands.run(home / name, *TRANSFER)
    return home


@pytest.mark.parametrize("part", OPTIONAL)
def test_without_an_optional_part_all_goes_on(part: str, whole: Path, tmp_path: Path) -> None:
    package = copy_of(tmp_path / "package", OPTIONAL[part])
    encoders = ENCODERS if part == "kernels" else {"cgcnn": ENCODERS["cgcnn"]}
    todo: dict[str, list[list[str]]] = {}
    for name, words in encoders.items():
        source, trained = (folder_of(whole / name / "runs" / stage) for stage in ("pretrain", "transfer"))
        # Pretraining is the same training; without a sole small part it need not be seen again.
        todo[name] = [[*PRETRAIN, *words], TRANSFER] if part in ("kernels", "all") else []
        if part == "CUDA graphs":
            todo[name].append([*TRANSFER, f"source={source}"])
        if "sweep" in OPTIONAL[part]:
            # Its runs follow each other.
            todo[name].append([*TRANSFER, "-m", "seed=0,1", f"source={source}", "hydra.sweep.dir=several"])
        todo[name].append(["eval", "runs=again", f"model={trained}"])
    run(tmp_path, package, todo)
    for name in encoders:
        expected = predictions(folder_of(whole / name / "runs" / "transfer"))
        size = float(np.abs(expected.prediction).max())

        def off(folder: Path, expected: pd.DataFrame, size: float = size) -> float:
            found = predictions(folder)
            assert found.id.tolist() == expected.id.tolist()
            return float(np.abs(found.prediction - expected.prediction).max()) / size

        assert off(folder_of(tmp_path / name / "again"), expected[expected.split == "test"].reset_index()) < 1e-5
        # Trained without the part, too: a step of training rounds otherwise, and so do those that follow.
        if part != "sweep":
            assert off(folder_of(tmp_path / name / "runs" / "transfer"), expected) < 1e-3
        if "sweep" in OPTIONAL[part]:
            assert off(tmp_path / name / "several" / "0", expected) < 1e-3
            assert len(list((tmp_path / name / "several").rglob("model/manifest.json"))) == 2
