"""Models that earlier versions saved load and predict what they predicted then.

``tests/stored/schema_N.tar.xz`` holds a folder for each model, and ``predictions.json``: what the version that made
them predicted for three of the bundled crystals. ``scripts/build_stored_models.py`` makes those of today's schema.
"""

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))

from build_stored_models import PREDICTIONS, STORED, predictions

from tltool.data.store import Store
from tltool.training.saved_model import checkpoint, upgrades

CONFIGS = Path(__file__).parents[3] / "configs"
SHIPPED = [
    file for place in ("encoder", "readout", "trunk", "head") for file in sorted((CONFIGS / place).glob("*.yaml"))
]


def _names(archive: Path) -> list[str]:
    with tarfile.open(archive) as file:
        return sorted({Path(name).parent.name for name in file.getnames() if Path(name).name == "manifest.json"})


MODELS = [(archive, name) for archive in sorted(STORED.glob("schema_*.tar.xz")) for name in _names(archive)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of the models of each archive."""
    found = {}
    for archive in {archive for archive, _ in MODELS}:
        found[archive.name] = tmp_path_factory.mktemp("stored")
        with tarfile.open(archive) as file:
            file.extractall(found[archive.name], filter="data")
    return found


@pytest.mark.parametrize(("archive", "name"), MODELS, ids=lambda value: str(getattr(value, "name", value)))
def test_a_stored_model_predicts_what_it_predicted(
    archive: Path, name: str, folders: dict[str, Path], demo: Store, tmp_path: Path
) -> None:
    folder = folders[archive.name]
    expected = _flat(json.loads((folder / PREDICTIONS).read_text(encoding="utf-8"))[name])
    assert expected
    # Saved again it has today's form.
    checkpoint.save(tmp_path / "again", checkpoint.load(folder / name))
    for path in (folder / name, tmp_path / "again"):
        assert _flat(predictions(checkpoint.load(path), demo)) == pytest.approx(expected, rel=1e-6, abs=0)
    assert checkpoint.read_spec(tmp_path / "again")["schema"] == upgrades.SCHEMA
    assert "_target_" not in (tmp_path / "again" / "model.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("archive", "name"), MODELS, ids=lambda value: str(getattr(value, "name", value)))
def test_a_stored_model_is_of_the_schema_that_its_archive_is_named_after(
    archive: Path, name: str, folders: dict[str, Path]
) -> None:
    written = OmegaConf.load(folders[archive.name] / name / "model.yaml")
    assert f"schema_{written.schema}.tar.xz" == archive.name


def _flat(found: dict[str, dict[str, list[float]]]) -> dict[tuple[str, str, int], float]:
    return {
        (functional, quantity, n): value
        for functional, table in found.items()
        for quantity, values in table.items()
        for n, value in enumerate(values)
    }


def test_there_are_models_of_every_schema_and_they_are_small() -> None:
    archives = list(STORED.iterdir())
    assert {file.name for file in archives} == {f"schema_{n}.tar.xz" for n in range(1, upgrades.SCHEMA + 1)}
    assert sum(file.stat().st_size for file in archives) < 300_000


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_part_is_in_a_stored_model_of_todays_schema(file: Path, folders: dict[str, Path]) -> None:
    # alignn_small takes its class from alignn.yaml.
    target: Any = OmegaConf.load(file).get("_target_", "tltool.model.encoders.alignn.ALIGNN")
    place, part = file.parent.name, target.rpartition(".")[2]
    specs = [
        checkpoint.read_spec(path) for path in folders[f"schema_{upgrades.SCHEMA}.tar.xz"].iterdir() if path.is_dir()
    ]
    assert (place, part) == ("head", "linear") or part in {spec[place]["part"] for spec in specs if place in spec}


def test_the_special_kinds_of_model_are_there(folders: dict[str, Path]) -> None:
    specs = [
        checkpoint.read_spec(path) for path in folders[f"schema_{upgrades.SCHEMA}.tar.xz"].iterdir() if path.is_dir()
    ]
    for key in ("base", "functionals", "state", "logarithmic", "estimators"):
        assert any(spec.get(key) for spec in specs), key
    assert any("parts" in spec["readout"] for spec in specs)
