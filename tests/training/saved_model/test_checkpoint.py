import json
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support import batches_of

from tltool.data.dataset import Dataset
from tltool.errors import CheckpointError, ResourceError
from tltool.model.property_model import PropertyModel
from tltool.run_folder.find import model_folder
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint


@pytest.fixture
def saved(source: PropertyModel, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "model", source)
    return tmp_path / "model"


def resealed(folder: Path) -> Path:
    """Make the manifest fit the files again, as somebody who edits on purpose would."""
    sums = {f.name: checkpoint._sha256(f) for f in folder.iterdir() if f.name != "manifest.json"}
    (folder / "manifest.json").write_text(json.dumps(sums))
    return folder


def edited(folder: Path, **changes: object) -> Path:
    spec = OmegaConf.to_container(OmegaConf.load(folder / "model.yaml"))
    (folder / "model.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(spec | changes)))
    return resealed(folder)


def test_a_model_comes_back_to_the_bit(saved: Path, source: PropertyModel, part: Dataset) -> None:
    back = checkpoint.load(saved)
    assert not back.training
    assert back.spec["graph"] == source.spec["graph"]
    data = batches_of(part)
    assert (predict(back, data, "test") == predict(source, data, "test")).all()
    assert {f.name for f in saved.iterdir()} == {"model.safetensors", "model.yaml", "manifest.json"}


def test_a_model_of_before_there_were_angles_has_none(source: PropertyModel) -> None:
    graph = {key: value for key, value in source.spec["graph"].items() if key != "angles"}
    assert checkpoint.graph_settings({"graph": graph}) == checkpoint.graph_settings(source.spec)
    assert checkpoint.graph_settings({"graph": graph}).angles is False


@pytest.mark.parametrize("name", ["model.safetensors", "model.yaml"])
def test_a_flipped_byte_is_refused_by_name(saved: Path, name: str) -> None:
    content = bytearray((saved / name).read_bytes())
    content[-5] ^= 1
    (saved / name).write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=rf"{name} has changed"):
        checkpoint.load(saved)


def test_a_changed_cutoff_is_refused_by_name(saved: Path) -> None:
    text = (saved / "model.yaml").read_text()
    assert "cutoff: 8.0" in text
    (saved / "model.yaml").write_text(text.replace("cutoff: 8.0", "cutoff: 6.0"))
    with pytest.raises(CheckpointError, match=r"model\.yaml has changed"):
        checkpoint.load(saved)


def test_what_is_no_model_folder(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no model folder"):
        checkpoint.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="is incomplete"):
        checkpoint.load(tmp_path / "empty")
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        checkpoint.load(saved)


def test_another_file_in_the_manifest_cannot_lead_outside(saved: Path) -> None:
    sums = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(sums | {"../../etc/passwd": "0"}))
    with pytest.raises(CheckpointError, match="passwd is missing"):
        checkpoint.load(saved)
    (saved / "manifest.json").write_text("<html>")
    with pytest.raises(CheckpointError, match="cannot be read as a model folder"):
        checkpoint.load(saved)


def test_an_edited_model_is_refused(saved: Path, source: PropertyModel, tmp_path: Path) -> None:
    for n, (changes, words) in enumerate(
        [
            ({"schema": 99}, "schema 99"),
            ({"schema": 1, "encoder": source.spec["encoder"] | {"dim": 32}}, "does not contain"),
            ({"encoder": {"_target_": "os.system"}}, "may not be used"),
            ({"encoder": {"_target_": "tltool.training.saved_model.checkpoint.shutil.rmtree"}}, "cannot be used"),
            ({"trunk": {"_target_": "builtins.eval"}}, "may not be used"),
        ]
    ):
        folder = edited(shutil.copytree(saved, tmp_path / str(n)), **changes)
        with pytest.raises(CheckpointError, match=words):
            checkpoint.load(folder)


def test_a_damaged_tensor_file_with_a_right_sum(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"PK not tensors")
    with pytest.raises(CheckpointError, match="does not contain the model"):
        checkpoint.load(resealed(saved))


def test_nothing_half_written_stays(source: PropertyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **keys: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(ResourceError, match="No space left"):
        checkpoint.save(tmp_path / "model", source)
    assert list(tmp_path.iterdir()) == []


def test_finding_a_model(saved: Path, tmp_path: Path) -> None:
    assert model_folder(str(saved), tmp_path, "pretrain") == saved
    assert model_folder(str(saved.parent), tmp_path, "pretrain") == saved
    with pytest.raises(CheckpointError, match="'tltool pretrain'"):
        model_folder("latest", tmp_path, "pretrain")
    with pytest.raises(CheckpointError, match="no model at"):
        model_folder(str(tmp_path / "missing"), tmp_path, "transfer")
    for name, state, finished in (
        ("a", "finished", "2026-01-02"),
        ("b", "failed", "2026-01-04"),
        ("c", "finished", "2026-01-03"),
    ):
        shutil.copytree(saved, tmp_path / "pretrain" / name / "model")
        status = {"state": state, "finished": finished}
        (tmp_path / "pretrain" / name / "status.json").write_text(json.dumps(status))
    assert model_folder("latest", tmp_path, "pretrain") == tmp_path / "pretrain" / "c" / "model"


def test_a_model_goes_to_another_device_and_back(saved: Path) -> None:
    where = "cuda" if torch.cuda.is_available() else "cpu"
    assert next(checkpoint.load(saved, where).parameters()).device.type == where
