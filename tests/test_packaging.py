"""The wheel holds what tltool needs and nothing else, and works from where it is installed."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from support import ROOT

SOURCES = ("tltool", "configs", "pyproject.toml", "README.md", "LICENSE")


def run(folder: Path, *words: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel, built of a copy of the sources alone, without a network."""
    home = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, home)
    run(home, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist")
    (made,) = (home / "dist").iterdir()
    return made


def test_the_wheel_holds_what_is_needed_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(about[0]).decode()
    wanted = {path for path in (ROOT / "tltool").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    kinds = (".py", ".cpp", ".h", ".h5", ".csv", ".npz", ".typed")
    models = ROOT / "tltool" / "bundled_models"
    packed = {path.relative_to(ROOT).as_posix() for path in wanted if path.suffix in kinds or models in path.parents}
    trees = [path for path in (ROOT / "configs").rglob("*") if path.suffix in (".yaml", ".py")]
    packed |= {f"tltool/{path.relative_to(ROOT).as_posix()}" for path in trees}
    assert names == packed
    assert {"tltool/elements.csv", "tltool/py.typed", "tltool/configs/mode/regressor/ridge.yaml"} <= names
    assert sum(name.endswith(".h5") for name in names) == 4
    assert "\nRequires-Python: <3.14,>=3.11\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert wheel.stat().st_size < 8e6
    assert sum(path.stat().st_size for path in models.rglob("*") if path.is_file()) < 6e6


def test_every_folder_of_code_is_a_package() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "tltool").rglob("__init__.py")}
    configs = {path.parent.relative_to(ROOT) for path in (ROOT / "configs").rglob("__init__.py")}
    names = [".".join(folder.parts) for folder in folders] + [".".join(("tltool", *folder.parts)) for folder in configs]
    assert sorted(packages) == sorted(names)


def test_the_installed_wheel_works(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "installed"
    run(tmp_path, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(place), str(wheel))
    env = {"PYTHONPATH": str(place)}
    files = run(
        tmp_path, "-c", "import tltool, tltool.configs as c; print(tltool.__file__, c.__file__, sep='\\n')", **env
    )
    assert all(Path(file).is_relative_to(place) for file in files.splitlines())
    assert "usage: tltool STAGE" in run(tmp_path, "-m", "tltool", "--help", **env)
    shown = run(tmp_path, "-m", "tltool", "pretrain", "--cfg", "job", **env)
    assert shown == run(ROOT, "-m", "tltool", "pretrain", "--cfg", "job", PYTHONPATH="")
    assert "_target_: tltool.model.encoders.cgcnn.CGCNN" in shown
    stores = "from tltool.data.dataset import BUNDLED; print(BUNDLED, *BUNDLED.glob('*.h5'), sep='\\n')"
    folder, *found = run(tmp_path, "-c", stores, **env).splitlines()
    assert Path(folder).is_relative_to(place)
    assert len(found) == 4
