"""Fast paths are optional: without them tltool trains, transfers and evaluates, and predicts the same to 1e-5."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
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
COMMANDS = """
import sys

# The copy and no other installation, whatever finders that one has.
sys.meta_path[:] = [finder for finder in sys.meta_path if finder.__module__ == "_frozen_importlib_external"
                    or finder.__module__ == "_frozen_importlib"]
sys.path.insert(0, {package!r})
import tltool
from tltool import cli

assert tltool.__file__.startswith({package!r}), tltool.__file__
for words in {commands}:
    sys.argv = ["tltool", *words]
    try:
        cli.main()
    except SystemExit as stop:
        if stop.code:
            raise
"""


def run(home: Path, package: Path, *commands: list[str]) -> None:
    """Run commands with the tltool in ``package``, in a process of its own, in the folder ``home``."""
    home.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONSAFEPATH": "1", "COLUMNS": "200"}
    code = COMMANDS.format(package=str(package), commands=list(commands))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr


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
    for name, words in ENCODERS.items():
        run(home / name, package, *training(*words), ["eval", "runs=runs"])
    return home


@pytest.mark.parametrize("part", OPTIONAL)
def test_without_an_optional_part_all_goes_on(part: str, whole: Path, tmp_path: Path) -> None:
    package = copy_of(tmp_path / "package", OPTIONAL[part])
    # Without tltool/sweep the runs of a sweep follow each other.
    seeds = ["transfer", "-m", "target=bulk_modulus", "mode=finetune", "seed=0,1", "runs=several", *FEW]
    for name, words in ENCODERS.items() if part == "kernels" else [("cgcnn", [])]:
        expected = predictions(whole / name / "runs" / "eval")
        (trained,) = (file.parent for file in (whole / name / "runs" / "transfer").rglob("model/manifest.json"))
        run(
            tmp_path / name,
            package,
            *training(*words),
            ["eval", "runs=runs"],
            ["eval", "runs=again", f"model={trained}"],
            *([[*seeds, f"source={trained}"]] if "sweep" in OPTIONAL[part] else []),
        )
        if "sweep" in OPTIONAL[part]:
            assert len(list((tmp_path / name / "several").rglob("model/manifest.json"))) == 2
        found = predictions(tmp_path / name / "again")
        assert found.id.tolist() == expected.id.tolist()
        size = float(np.abs(expected.prediction).max())
        assert float(np.abs(found.prediction - expected.prediction).max()) < 1e-5 * size
        # Trained without the part, too: a step of training rounds otherwise, and so do those that follow.
        own = predictions(tmp_path / name / "runs" / "eval")
        assert float(np.abs(own.prediction - expected.prediction).max()) < 1e-3 * size
