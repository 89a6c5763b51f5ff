"""Models that ship: their names, that they predict here what they did where they were trained, and what they carry."""

import json
from pathlib import Path

import pytest

from tltool.data.overlap import crystal_index
from tltool.errors import CheckpointError
from tltool.evaluation import reference_predictions
from tltool.run_folder import bundled_models, find
from tltool.training.backend import CPU
from tltool.training.saved_model import checkpoint

NAMES = ["cgcnn", "megnet"]


def test_names() -> None:
    assert bundled_models.names() == NAMES
    assert bundled_models.BEST in NAMES
    assert find.model_folder("bundled", Path("runs"), "pretrain") == bundled_models.FOLDER / bundled_models.BEST
    assert find.model_folder("bundled/cgcnn", Path("runs"), "transfer").name == "cgcnn"
    assert bundled_models.called(bundled_models.folder("bundled/cgcnn")) == "bundled/cgcnn"
    assert bundled_models.called(Path("runs/a/model")) == "runs/a/model"


@pytest.mark.parametrize("name", ["bundled/x", "bundled/", "bundled/../data", "bundled/cgcnn/model.yaml"])
def test_an_unknown_name_says_which_there_are(name: str) -> None:
    with pytest.raises(CheckpointError, match=r"no pretrained model .*; use one of bundled/cgcnn, bundled/megnet, or"):
        find.model_folder(name, Path("runs"), "pretrain")


def test_a_folder_of_ones_own_may_have_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundled" / "x").mkdir(parents=True)
    assert find.model_folder("./bundled/x", Path("runs"), "pretrain") == Path("bundled/x")


def test_without_a_pretraining_the_source_is_the_bundled_one(tmp_path: Path) -> None:
    said: list[str] = []
    assert find.source_folder("latest", tmp_path, said.append) == bundled_models.folder("bundled")
    assert len(said) == 1
    assert f"bundled/{bundled_models.BEST}, which ships with tltool" in said[0]
    assert find.source_folder("bundled", tmp_path, said.append) == bundled_models.folder("bundled")
    run = tmp_path / "pretrain" / "a"
    (run / "model").mkdir(parents=True)
    (run / "model" / "manifest.json").touch()
    (run / "status.json").write_text(json.dumps({"state": "finished", "finished": "2026-01-01"}))
    assert find.source_folder("latest", tmp_path, said.append) == run / "model"
    assert len(said) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_model_predicts_what_it_did_and_knows_its_crystals(name: str) -> None:
    folder = bundled_models.folder(f"bundled/{name}")
    model = reference_predictions.loaded(folder, CPU)
    assert model.quantities == ["e_form", "gap"]
    seen = crystal_index.from_arrays(model.seen, name)
    (step,) = model.spec["provenance"]
    assert seen.sources == ("mp36k",)
    assert len(seen) >= step["n_train"] > 30_000
    assert "doi:10.1063/1.4812323" in step["citation"]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_packed_as_it_should_be(name: str) -> None:
    folder = bundled_models.folder(f"bundled/{name}")
    checkpoint.read_spec(folder)
    assert {file.name for file in folder.iterdir()} == {
        "README.md",
        "manifest.json",
        "model.safetensors",
        "model.yaml",
        "reference.json",
        "seen.safetensors",
    }
    assert "reference.json" in json.loads((folder / "manifest.json").read_text())
    text = (folder / "model.yaml").read_text()
    assert "/tmp" not in text
    assert "prepared" not in text
    card = (folder / "README.md").read_text()
    for word in ("CC BY 4.0", "doi:10.1063/1.4812323", "tltool pretrain", "MAE", "seconds"):
        assert word in card
