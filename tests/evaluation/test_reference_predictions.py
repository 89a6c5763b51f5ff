"""Reference predictions of a model folder: those of the model itself pass, others end in one sentence."""

import json
from pathlib import Path

import pytest
import torch

import tltool
from tltool.data.store import Store
from tltool.errors import CheckpointError
from tltool.evaluation import reference_predictions
from tltool.model.property_model import PropertyModel
from tltool.training.backend import CPU
from tltool.training.saved_model import checkpoint


@pytest.fixture
def folder(source: PropertyModel, demo: Store, tmp_path: Path) -> Path:
    """A saved model with the predictions for three crystals."""
    checkpoint.save(tmp_path / "model", source)
    crystals = [(demo.ids[row], demo.crystal(row)) for row in (3, 500, 900)]
    written(tmp_path / "model", reference_predictions.content(source, crystals))
    return tmp_path / "model"


def written(folder: Path, content: object) -> None:
    (folder / "reference.json").write_text(json.dumps(content))


def read(folder: Path) -> dict[str, list[dict[str, dict[str, float]]]]:
    return json.loads((folder / "reference.json").read_text())  # type: ignore[no-any-return]


def test_a_model_predicts_what_it_says(folder: Path) -> None:
    assert reference_predictions.loaded(folder, CPU).quantities == ["e_form"]


def test_a_bundled_model_predicts_from_python() -> None:
    assert tltool.load_model("bundled", "cpu", kernels="torch").model.quantities == ["e_form", "gap"]
    with pytest.raises(CheckpointError, match="use one of bundled/cgcnn"):
        tltool.load_model("bundled/none", "cpu")


def test_a_folder_needs_none(folder: Path) -> None:
    (folder / "reference.json").unlink()
    assert reference_predictions.loaded(folder, CPU).quantities == ["e_form"]


@pytest.mark.parametrize("change", [0.01, -0.01, float("nan")])
def test_another_prediction_ends_in_a_sentence(folder: Path, demo: Store, change: float) -> None:
    content = read(folder)
    content["crystals"][1]["predictions"]["e_form"] += change
    written(folder, content)
    with pytest.raises(
        CheckpointError, match=rf"predicts e_form = .* eV/atom for {demo.ids[500]}, where reference.json"
    ):
        reference_predictions.loaded(folder, CPU)
    with pytest.raises(CheckpointError, match="this installation computes differently"):
        tltool.load_model(folder, "cpu", kernels="torch")


def test_a_model_that_computes_nothing_is_noticed(folder: Path, source: PropertyModel) -> None:
    model = checkpoint.load(folder)
    with torch.no_grad():
        model.scalers["e_form"].mean.fill_(float("nan"))
    content = folder / "reference.json"
    checkpoint.save(folder.parent / "other", model)
    (folder.parent / "other" / "reference.json").write_bytes(content.read_bytes())
    with pytest.raises(CheckpointError, match="e_form = nan"):
        reference_predictions.loaded(folder.parent / "other", CPU)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"crystals": []}',
        '{"crystals": [1]}',
        '{"crystals": [{"id": "a", "lattice": [[1]], "frac_coords": [[0, 0, 0]], "numbers": [1], "predictions": {}}]}',
        "[" * 5000,
    ],
)
def test_what_is_no_reference(folder: Path, text: str) -> None:
    (folder / "reference.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"reference.json holds no reference predictions \("):
        reference_predictions.loaded(folder, CPU)


def test_a_large_file_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_predictions, "_LARGEST", 10)
    with pytest.raises(CheckpointError, match="larger than"):
        reference_predictions.loaded(folder, CPU)


def test_no_many_sites(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_predictions, "_MOST_SITES", 2)
    with pytest.raises(CheckpointError, match="of at most 2 sites together"):
        reference_predictions.loaded(folder, CPU)
