"""Intervals as their user sees them: of a cross-validation, of validation rows, of too few, and of a saved model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run
from pymatgen.core import Lattice, Structure
from safetensors.numpy import load_file, save_file

from tltool.data.store import Store
from tltool.errors import CheckpointError
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

WORDS = (
    "target=table", "target.data.root=table.csv", "target.data.quantities=[e_form]", "source=source", "workers=1",
    "mode=features", "mode/regressor=gaussian_process", "mode.level=[]", "mode.extra_features=[elements]",
)  # fmt: skip


def structure(demo: Store, row: int) -> Structure:
    crystal = demo.crystal(row)
    return Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac)


@pytest.fixture(scope="module")
def home(demo: Store, source: PropertyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("intervals")
    checkpoint.save(folder / "source", source)
    lines = []
    for row in range(200, 240):
        cell = json.dumps(structure(demo, row).as_dict()).replace('"', '""')
        lines.append(f'{demo.ids[row]},"{cell}",{demo.label("e_form")[row]}')
    (folder / "table.csv").write_text("id,structure,e_form\n" + "\n".join(lines) + "\n")
    (folder / "new").mkdir()
    structure(demo, 210).to(str(folder / "new" / "POSCAR_known"), fmt="poscar")
    structure(demo, 900).to(str(folder / "new" / "POSCAR_new"), fmt="poscar")
    return folder


def said(folder: Path) -> str:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return "\n".join(line["text"] for line in lines if line["event"] == "say")


def test_a_cross_validated_model_gives_intervals_wherever_it_goes(home: Path) -> None:
    run(
        home,
        "transfer",
        *WORDS,
        "split=cv",
        "split.folds=3",
        "split.compare=none",
        "split.repeats=2",
        "hydra.run.dir=cv",
    )
    table = pd.read_csv(home / "cv" / "predictions.csv")
    assert (table.lower < table.prediction).all()
    assert (table.prediction < table.upper).all()
    assert set(table.coverage) == {0.9}
    inside = (table.lower <= table.label) & (table.label <= table.upper)
    block = json.loads((home / "cv" / "metrics.json").read_text())["quantities"]["e_form"]["interval"]
    assert block["covered"] == pytest.approx(inside.mean())
    assert (block["of"], block["rows"], block["n"]) == ("out-of-fold rows", 40, 80)
    assert inside.mean() > 0.75
    assert "intervals of 90% from 40 out-of-fold rows" in said(home / "cv")
    widths = table.upper - table.lower
    assert widths.std() > 0, "a Gaussian process knows some crystals less well"

    done = run(home, "predict", "model=cv", "input=new", "output=out.csv")
    found = pd.read_csv(home / "out.csv").set_index("id")
    assert (found.lower < found.prediction).all()
    assert "lower" in done.stdout
    run(home, "predict", "model=cv", "input=new", "output=wide.csv", "coverage=0.97")
    wide = pd.read_csv(home / "wide.csv").set_index("id")
    assert (wide.upper - wide.lower > found.upper - found.lower).all()
    none = run(home, "predict", "model=cv", "input=new", "output=none.csv", "coverage=0.99")
    assert "40 rows are too few for 99%, which needs 99" in none.stderr
    assert pd.read_csv(home / "none.csv").lower.isna().all()
    run(home, "predict", "model=cv", "input=new", "output=plain.csv", "coverage=null")
    assert "lower" not in pd.read_csv(home / "plain.csv")
    assert "above 0 and below 1" in run(home, "predict", "model=cv", "input=new", "coverage=90", code=2).stderr

    folder = home / "cv" / "model"
    model = checkpoint.load(folder)
    assert model.uncertainty["score/e_form"].shape == (80,)
    assert model.uncertainty["rows/e_form"].tolist() == [40]
    for change in ({"limit": np.array([np.nan])}, {"score/gap": np.ones(3)}, {"rows/e_form": np.array([99])}):
        model.uncertainty = load_file(folder / "uncertainty.safetensors") | change
        bad = home / f"bad-{next(iter(change)).replace('/', '-')}"
        checkpoint.save(bad, model)
        with pytest.raises(CheckpointError, match=r"uncertainty\.safetensors cannot be used"):
            checkpoint.load(bad)
    save_file({"of": np.ones(1)}, folder / "uncertainty.safetensors")
    with pytest.raises(CheckpointError, match="has changed since the model was saved"):
        checkpoint.load(folder)


def test_validation_rows_give_intervals_if_they_are_enough(home: Path) -> None:
    run(home, "transfer", *WORDS, "split.val=0.3", "split.test=0.2", "hydra.run.dir=plain")
    table = pd.read_csv(home / "plain" / "predictions.csv").set_index("split")
    assert table.loc["test"].lower.notna().all()
    assert table.loc["train"].lower.isna().all()
    assert "from 12 validation rows" in said(home / "plain")
    run(home, "eval", "model=plain", "hydra.run.dir=again")
    again = pd.read_csv(home / "again" / "predictions.csv")
    np.testing.assert_allclose(again.upper, table.loc["test"].upper, rtol=1e-4)

    run(home, "transfer", *WORDS, "hydra.run.dir=few")
    assert "e_form: no intervals, as 4 rows are too few for 90%, which needs 9; use split=cv" in said(home / "few")
    assert "lower" not in pd.read_csv(home / "few" / "predictions.csv")
