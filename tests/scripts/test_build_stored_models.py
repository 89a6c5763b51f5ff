"""The script that stores models of today's form makes models that load, and never replaces any."""

import json
import sys
import tarfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import build_stored_models
from commands import threads_kept

from tltool.data.store import Store
from tltool.training.saved_model import checkpoint, upgrades

pytestmark = pytest.mark.slow


def test_it_stores_models_and_what_they_predict(tmp_path: Path, demo: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    two = {name: build_stored_models.RECIPES[name] for name in ("cgcnn", "ridge")}
    monkeypatch.setattr(build_stored_models, "RECIPES", two)
    with threads_kept():
        build_stored_models.main(tmp_path / "models.tar.xz")
    with tarfile.open(tmp_path / "models.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    stored = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert stored.keys() == two.keys()
    for name, by_functional in stored.items():
        assert checkpoint.read_spec(tmp_path / name)["schema"] == upgrades.SCHEMA
        assert build_stored_models.predictions(checkpoint.load(tmp_path / name), demo)[""] == {
            quantity: pytest.approx(values, rel=1e-9) for quantity, values in by_functional[""].items()
        }
    assert {"e_form", "K_VRH"} == stored["cgcnn"][""].keys()
    assert len(set(stored["ridge"][""]["gap"])) == 3


def test_it_does_not_replace_stored_models(tmp_path: Path) -> None:
    (tmp_path / "models.tar.xz").write_text("kept")
    with pytest.raises(SystemExit, match=r"models\.tar\.xz exists"):
        build_stored_models.main(tmp_path / "models.tar.xz")
    assert (tmp_path / "models.tar.xz").read_text() == "kept"
