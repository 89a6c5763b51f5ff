"""Classes from the command line: a user's table in; probabilities, a report and verdicts out."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from blank_pictures import blank
from commands import run
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

import tltool
from tltool.data.store import Store
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint

pytestmark = pytest.mark.slow

WORDS = ("rock, salt", 'the "other"', "third")
COLUMNS = [f"p_{word}" for word in sorted(WORDS)]


@pytest.fixture(scope="module")
def home(demo: Store, source: PropertyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with own structures and a table of classes, one of them with a single row, and a source model."""
    folder = tmp_path_factory.mktemp("classes")
    checkpoint.save(folder / "source", source)
    (folder / "own").mkdir()
    rows = []
    for row in range(40):
        crystal = demo.crystal(row)
        written = Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac)
        CifWriter(written).write_file(folder / "own" / f"{demo.ids[row]}.cif")
        several = len(set(crystal.numbers.tolist())) > 2
        word = WORDS[2] if row == 5 else WORDS[int(several)]
        rows.append({"id": demo.ids[row], "kappa (W/mK)": row / 7 + 1, "class": "" if row == 7 else word})
    pd.DataFrame(rows).to_csv(folder / "own" / "props.csv", index=False)
    return folder


def transfer(home: Path, *words: str, quantities: str = "[class]") -> str:
    target = ["target=folder", "target.data.root=own", f"target.data.quantities={quantities}", "source=source"]
    return run(home, "transfer", *target, *words).stderr


@pytest.fixture(scope="module")
def crossed(home: Path) -> tuple[Path, str]:
    """A cross-validated transfer to the class, and what it said."""
    said = transfer(
        home,
        "mode=features",
        "mode.regressor=null",
        "fit.epochs=3",
        "split=cv",
        "split.folds=3",
        "split.repeats=2",
        "hydra.run.dir=cv",
    )
    return home / "cv", said


def require_probabilities(table: pd.DataFrame) -> None:
    np.testing.assert_allclose(table[COLUMNS].sum(axis=1), 1.0, atol=1e-5)
    said = table[COLUMNS].idxmax(axis=1).str.removeprefix("p_")
    assert (said == table.prediction).all()
    assert "lower" not in table or table.lower.isna().all()


def test_cross_validation_of_a_class(crossed: tuple[Path, str]) -> None:
    folder, said = crossed
    assert "class is a class (3: rock, salt, the \"other\", third). Ids in column 'id'" in said
    assert re.search(r"features, repeat 1: Brier of 3 folds class 0\.\d+ \(3 of 12", said)
    assert re.search(r"class: Brier score 0\.\d+ ± 0\.\d+ over 6 folds .* Scratch on the same folds: 0\.\d+ ±", said)
    assert re.search(r"the Brier score is [\d.]+ (lower|higher) \(95\s+% interval", said.replace("\n", " "))
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == 39 * 2
    require_probabilities(table)
    assert set(table.scratch) <= set(WORDS)
    assert pd.read_parquet(folder / "predictions.parquet")[COLUMNS].notna().all().all()
    found = json.loads((folder / "metrics.json").read_text())["quantities"]["class"]
    test = found["test"]
    assert test["n"] == 39
    assert np.array(test["confusion"]).sum() == 39 * 2
    assert test["accuracy of most frequent"] == pytest.approx((table.label == table.label.mode()[0]).mean())
    assert test["accuracy"] == pytest.approx((table.label == table.prediction).mean())
    right = table[COLUMNS].to_numpy()[range(len(table)), [sorted(WORDS).index(word) for word in table.label]]
    assert test["cross-entropy"] == pytest.approx(-np.log(np.clip(right, 1e-6, 1)).mean(), rel=1e-4)
    assert {"Brier", "Brier_scratch"} <= found["folds"][0].keys()
    for name in ("confusion.png", "calibration.png"):
        assert (folder / name).stat().st_size > 5_000


def test_each_fold_has_its_share_of_the_classes(crossed: tuple[Path, str]) -> None:
    table = pd.read_csv(crossed[0] / "predictions.csv")
    counts = table.groupby(["repeat", "fold"]).label.value_counts().unstack(fill_value=0)
    assert (counts.max() - counts.min() <= 1).all()


def test_the_model_predicts_and_is_evaluated_anywhere(home: Path, crossed: tuple[Path, str]) -> None:
    run(home, "predict", "model=cv", "input=own", "output=out.csv")
    table = pd.read_csv(home / "out.csv")
    require_probabilities(table)
    assert set(table.quantity) == {"class"}
    predictor = tltool.load_model(home / "cv")
    assert predictor.model.known["class"].classes == tuple(sorted(WORDS))

    # Data that know two of the three classes, whose own order is another.
    other = home / "fewer"
    other.mkdir()
    kept = pd.read_csv(home / "own" / "props.csv", dtype=str)
    kept = kept[kept["class"].isin([WORDS[1], WORDS[2]])]
    for name in kept.id:
        (other / f"{name}.cif").write_bytes((home / "own" / f"{name}.cif").read_bytes())
    kept.to_csv(other / "props.csv", index=False)
    where = ["data=folder", f"data.root={other}", "data.quantities=[class]"]
    run(home, "eval", "model=cv", *where, "hydra.run.dir=evaluated")
    own = pd.read_csv(home / "evaluated" / "predictions.csv").set_index("id")
    assert dict(own.label) == dict(zip(kept.id, kept["class"], strict=True))
    kept.assign(**{"class": kept["class"].replace(WORDS[2], "fourth")}).to_csv(other / "props.csv", index=False)
    done = run(home, "eval", "model=cv", *where, code=3)
    assert "The data have class='fourth', which is no class of the model; it knows rock, salt" in done.stderr


def test_a_report_of_classes(home: Path, crossed: tuple[Path, str]) -> None:
    for mode in ("scratch", "finetune"):
        transfer(home, f"mode={mode}", "fit.epochs=3", "hydra.run.dir=" + f"seeds/{mode}")
    with blank():
        run(home, "report", "inputs=[seeds,cv]", "output=report")
    page = next((home / "report").glob("*.md")).read_text()
    for word in ("Brier/shares", "balanced accuracy", "ROC-AUC", "difference to scratch |", "Brier, seed"):
        assert word in page.replace("\u00a0", " ")
    assert "MAE" not in page.partition("How the tables are made")[0].replace("validation MAE", "").replace(
        "Test MAE of each mode", ""
    )


def test_a_class_beside_a_number(home: Path) -> None:
    """Words stand among numbers in one column."""
    transfer(home, "mode=finetune", "fit.epochs=3", "hydra.run.dir=both", quantities="[kappa,class]")
    table = pd.read_csv(home / "both" / "predictions.csv", dtype=str)
    kappa, words = (table[table.quantity == name] for name in ("kappa", "class"))
    assert kappa.prediction.astype(float).notna().all()
    assert kappa[COLUMNS].isna().all().all()
    assert words.prediction.isin(WORDS).all()
    assert len(pd.read_parquet(home / "both" / "predictions.parquet")) == len(table)
    assert {path.name for path in (home / "both").glob("*.png")} == {
        "parity-kappa.png",
        "confusion-class.png",
        "calibration-class.png",
    }


def test_a_class_of_formulas(home: Path) -> None:
    """Without structures; the model takes formulas where it is used, too."""
    pairs = [(metal, other) for metal in ("Li", "Na", "K", "Rb", "Mg", "Ca") for other in ("F", "Cl", "O", "S")]
    rows = [
        {"id": n, "formula": metal + other, "kind": "halide" if other in ("F", "Cl") else "other"}
        for n, (metal, other) in enumerate(pairs)
    ]
    pd.DataFrame(rows).to_csv(home / "formulas.csv", index=False)
    words = ["target=formulas", "target.data.root=formulas.csv", "target.data.quantities=[kind]", "source=source"]
    done = run(home, "transfer", *words, "mode=features", "hydra.run.dir=formulas")
    assert "kind is a class (2: halide, other)" in done.stderr
    run(home, "predict", "model=formulas", "input=formulas.csv", "output=kinds.csv")
    table = pd.read_csv(home / "kinds.csv")
    np.testing.assert_allclose(table.p_halide + table.p_other, 1.0, atol=1e-5)
    assert (table.prediction == [row["kind"] for row in rows]).mean() > 0.7
