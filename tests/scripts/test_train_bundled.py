"""Packing a trained model: nothing of this machine stays in it, and what is packed is checked when it is loaded."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import train_bundled

from tltool.errors import CheckpointError
from tltool.evaluation import reference_predictions
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.edit import copy_of
from tltool.run_folder import bundled_models
from tltool.training.backend import CPU
from tltool.training.saved_model import checkpoint

BLOCK = {"unit": "eV/atom", "test": {"n": 1837, "MAE": 0.0456, "RMSE": 0.1, "MAD": 0.98}}


@pytest.fixture
def finished(source: PropertyModel, tmp_path: Path) -> Path:
    """A run folder as pretrain leaves it."""
    run = tmp_path / "runs" / "cgcnn" / "pretrain" / "a"
    run.mkdir(parents=True)
    model = copy_of(source)
    model.spec["provenance"] = [{"name": "mp36k", "prepared": "/secret/cache/mp36k", "address": "/secret/file"}]
    checkpoint.save(run / "model", model)
    (run / "status.json").write_text(json.dumps({"state": "finished", "finished": "2026-01-01"}))
    fit = {"epochs": 40, "batch_size": 64, "loss": "l1", "schedule": "onecycle"}
    settings = {"fit": fit, "optimiser": {"_target_": "torch.optim.AdamW", "lr": 0.004}}
    facts = {"train_size": 33_059, "trainable_parameters": 80_898, "seconds": 700.0, "settings": settings}
    (run / "metrics.json").write_text(json.dumps(facts | {"quantities": {"e_form": BLOCK}}))
    epochs = [{"event": "epoch", "epoch": n, "seconds": 350.0} for n in (1, 2)]
    (run.parent / "0").mkdir()
    (run.parent / "0" / "log.jsonl").write_text(json.dumps(epochs[0] | {"seconds": 900.0}) + "\n")
    (run / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in epochs))
    facts = {"device": "cpu", "kernels": "compiled", "packages": {"torch": "2.13.0"}}
    (run / "environment.json").write_text(json.dumps(facts))
    return tmp_path


def test_a_finished_run_is_packed_and_not_trained_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["FILE", "--only", "cgcnn", "--runs", str(finished / "runs"), "--out", str(finished / "out")]
    train_bundled.main(words)
    train_bundled.main(words)  # in place of what is there
    assert "out/cgcnn: 0." in capsys.readouterr().out
    folder = finished / "out" / "cgcnn"
    model = reference_predictions.loaded(folder, CPU)
    assert model.spec["provenance"] == [{"name": "mp36k", "address": "https://materialsproject.org"}]
    assert all(b"secret" not in file.read_bytes() for file in folder.iterdir())
    card = (folder / "README.md").read_text()
    assert "| e_form | eV/atom | 1,837 | 0.0456 | 0.1000 | 0.980 |" in card
    assert "Time: 700 seconds for the epochs, on cpu (kernels compiled)" in card
    assert "40 epochs, batch 64, l1 loss, AdamW, learning rate 0.004" in card
    (folder / "reference.json").write_text((folder / "reference.json").read_text() + " ")
    with pytest.raises(CheckpointError, match="sha256 differs"):
        reference_predictions.loaded(folder, CPU)


def test_reference_crystals_are_small_and_different() -> None:
    found = train_bundled.references()
    assert len({name for name, _ in found}) == 6
    assert all(len(crystal.numbers) <= 12 for _, crystal in found)


def test_every_model_that_ships_has_its_training() -> None:
    assert bundled_models.names() == sorted(train_bundled.MODELS)
