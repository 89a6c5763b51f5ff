"""From a CSV of formulas to a model and a table of predictions, with no structure anywhere but in the source."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run

from tltool.data.record import formula
from tltool.data.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

FORMULAS = [
    "transfer", "target=formulas", "target.data.root=formulas.csv", "target.data.quantities=[e_form]", "mode=features",
    "source=source",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, demo: Store) -> Path:
    """Give a folder with a source model and a CSV of 240 formulas, three of them bad."""
    folder = tmp_path_factory.mktemp("formulas")
    run(folder, "pretrain", "fit.epochs=1", "fit.batch_size=512", "split.train_size=600", "hydra.run.dir=source")
    with (folder / "formulas.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "formula", "label"])
        for row in range(0, 2370, 10):
            record = demo.record(row)
            rows.writerow([f"f{row}", formula(record.crystal.numbers), record.labels["e_form"]])
        rows.writerows([["odd", "Fe2Xx3", 1], ["open", "Ca(OH", 1], ["none", "", 1]])
    return folder


def test_from_formulas_to_predictions(home: Path) -> None:
    done = run(home, *FORMULAS, "mode/regressor=atom_set", "split=composition", "fit.epochs=20", "hydra.run.dir=set")
    assert "Data set formulas: 237 records kept, 3 left out" in done.stderr
    unclosed = "an opening bracket in the formula has no closing bracket"
    for reason, name in (("'Xx' in the formula is not an element", "odd"), (unclosed, "open"), ("no formula", "none")):
        assert f"1 left out: {reason} (first: {name}, formulas.csv, line " in done.stderr
    errors = json.loads((home / "set" / "metrics.json").read_text())
    test = errors["quantities"]["e_form"]["test"]
    assert test["MAE"] < 0.8 * test["MAD"]
    table = pd.read_csv(home / "set" / "predictions.csv", keep_default_na=False)
    parts = table.groupby("formula").split.nunique()
    assert (parts == 1).all(), "a formula is in one part of the split"
    # The source holds crystals of many of these formulas, and says so.
    assert f"({errors['overlap']['formula']} same formula, no structure to compare)" in done.stderr
    assert set(table[table.split == "test"].seen) == {"", "formula"}

    run(home, "eval", "model=set", "hydra.run.dir=again")
    again = json.loads((home / "again" / "metrics.json").read_text())
    assert again["quantities"]["e_form"]["test"]["MAE"] == pytest.approx(test["MAE"], rel=1e-5)

    said = run(home, "predict", "model=set", "input=formulas.csv", "output=out.csv", "hydra.run.dir=predict").stderr
    assert "237 structures predicted, 3 not" in said
    made = pd.read_csv(home / "out.csv", index_col="id", keep_default_na=False)
    assert list(made.index[-3:]) == ["odd", "open", "none"]
    assert made.status["odd"] == "formulas.csv, line 239: 'Xx' in the formula is not an element; correct it."
    mine = table.set_index("id")
    np.testing.assert_allclose(made.prediction[mine.index].astype(float), mine.prediction, atol=1e-4)
    assert list(made.formula[mine.index]) == list(mine.formula)


def test_ridge_is_the_default_and_known_formulas_can_be_left_out(home: Path) -> None:
    run(home, *FORMULAS, "overlap=drop_test", "hydra.run.dir=ridge")
    errors = json.loads((home / "ridge" / "metrics.json").read_text())
    assert errors["overlap"] == {"unseen": errors["quantities"]["e_form"]["test"]["n"]}


def test_what_needs_a_structure_says_what_works(home: Path) -> None:
    done = run(home, *FORMULAS, "mode=finetune", "hydra.run.dir=refused", code=2)
    assert "use the element embedding of a pretrained encoder" in done.stderr
    words = ["predict", "model=source", "input=formulas.csv", "output=none.csv", "hydra.run.dir=nothing"]
    said = run(home, *words, code=3).stderr
    assert "0 structures predicted, 240 not predicted (see the column status): none.csv" in said
    assert (
        "input=formulas.csv: no structure or formula in it can be predicted; 237 of them: a formula has no structure"
        in said
    )
    assert "1 of them: an opening bracket in the formula has no closing bracket (first: open)" in said
    assert pd.read_csv(home / "none.csv").status.str.contains("a formula has no structure|the formula|no formula").all()
