"""Models that earlier versions saved load and predict what they predicted then.

``tests/stored/schema_N`` holds a folder for each model, and ``predictions.json`` what the version that made it
predicted for three of the bundled crystals.
"""

import json
from pathlib import Path

import pytest
from pymatgen.core import Structure

from tltool.data.store import Store
from tltool.evaluation.predictor import Predictor
from tltool.training.saved_model import checkpoint

STORED = Path(__file__).parents[2] / "stored"
MODELS = sorted(file.parent for file in STORED.glob("*/*/manifest.json"))
ROWS = (5, 500, 2500)


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_stored_model_predicts_what_it_predicted(folder: Path, demo: Store, tmp_path: Path) -> None:
    expected = json.loads((folder.parent / "predictions.json").read_text(encoding="utf-8"))[folder.name]
    structures = [Structure(c.lattice, list(c.numbers), c.frac) for c in map(demo.crystal, ROWS)]
    quantity = next(iter(checkpoint.read_spec(folder)["quantities"]))
    # Saved again it has today's form.
    checkpoint.save(tmp_path / "again", checkpoint.load(folder))
    for path in (folder, tmp_path / "again"):
        table = Predictor(checkpoint.load(path)).predict(structures)
        assert table[table["quantity"] == quantity]["prediction"].tolist() == pytest.approx(expected, abs=1e-5)
    assert "_target_" not in (tmp_path / "again" / "model.yaml").read_text(encoding="utf-8")


def test_there_are_some() -> None:
    assert len(MODELS) >= 4
