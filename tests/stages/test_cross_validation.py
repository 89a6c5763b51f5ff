"""Cross-validation as its user runs it: every row predicted, a model of all rows, and a killed run that goes on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run
from pymatgen.core import Lattice, Structure

from tltool.data.store import Store
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

WORDS = (
    "target=table", "target.data.root=table.csv", "target.data.quantities=[e_form]", "source=source", "fit.epochs=2",
    "workers=1", "split=cv", "split.folds=3", "split.repeats=2",
)  # fmt: skip
WITH = [word for word in WORDS if word != "fit.epochs=2"]


@pytest.fixture(scope="module")
def home(demo: Store, source: PropertyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    checkpoint.save(folder / "source", source)
    lines = []
    for row in range(200, 230):
        crystal = demo.crystal(row)
        text = json.dumps(Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac).as_dict())
        cell = text.replace('"', '""')
        lines.append(f'{demo.ids[row]},"{cell}",{demo.label("e_form")[row]},{"abcde"[row % 5]}')
    (folder / "table.csv").write_text("id,structure,e_form,series\n" + "\n".join(lines) + "\n")
    return folder


def said(folder: Path) -> str:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return "\n".join(line["text"] for line in lines if line["event"] == "say")


def test_one_command_predicts_every_row_and_compares_with_scratch(home: Path) -> None:
    done = run(home, "transfer", *WORDS, "mode=finetune", "hydra.run.dir=first")
    table = pd.read_csv(home / "first" / "predictions.csv")
    assert len(table) == 60
    assert table.groupby("id").repeat.agg(set).map(lambda found: found == {0, 1}).all()
    assert set(table.fold) == {0, 1, 2}
    assert np.isfinite(table[["prediction", "scratch", "label"]]).all().all()
    metrics = json.loads((home / "first" / "metrics.json").read_text())
    block = metrics["quantities"]["e_form"]
    errors = (table.prediction - table.label).abs()
    assert block["test"]["MAE"] == pytest.approx(errors.mean())
    assert block["test"]["n"] == 30
    of_folds = errors.groupby([table.repeat, table.fold]).mean().tolist()
    assert [line["MAE"] for line in block["folds"]] == pytest.approx(of_folds)
    others = (table.scratch - table.label).abs().groupby([table.repeat, table.fold]).mean().tolist()
    assert block["against_scratch"]["mean"] == pytest.approx(np.mean(np.array(of_folds) - others))
    assert block["spread"]["sd"] == pytest.approx(np.std(of_folds, ddof=1))
    assert "over 6 folds" in said(home / "first")
    assert "transfer finetune table" in done.stdout
    assert len(pd.read_csv(home / "first" / "folds.csv")) == 60

    model = checkpoint.load(home / "first" / "model")
    assert model.spec["provenance"][-1]["n_train"] == 30
    again = run(home, "eval", "model=first", code=2)
    assert "is a cross-validation, whose model was trained on every row" in again.stderr
    run(home, "report", "inputs=[first]", "output=page")
    assert "log" not in (home / "page" / "error.log").name or not (home / "page" / "error.log").exists()


def test_a_fold_is_what_a_run_on_its_rows_is(home: Path) -> None:
    run(home, "transfer", *WORDS, "mode=finetune", "split.compare=none", "hydra.run.dir=alone")
    folds = pd.read_csv(home / "alone" / "folds.csv")
    one = folds[folds.repeat == 1].assign(split=lambda t: np.where(t.fold == 2, "test", "train"))
    order = pd.read_csv(home / "table.csv").id
    one.set_index("id").reindex(order).reset_index()[["id", "split"]].to_csv(home / "fold.csv", index=False)
    words = [word for word in WORDS if not word.startswith("split")]
    run(home, "transfer", *words, "mode=finetune", "split=ids", "split.file=fold.csv", "hydra.run.dir=single")
    table = pd.read_csv(home / "alone" / "predictions.csv").query("repeat == 1 and fold == 2").set_index("id")
    single = pd.read_csv(home / "single" / "predictions.csv").query("split == 'test'").set_index("id")
    assert len(single) == len(table)
    assert np.abs(table.prediction - single.prediction.reindex(table.index)).max() < 1e-4
    assert "scratch" not in table.columns


def test_a_run_that_was_killed_goes_on_with_the_folds_left(home: Path) -> None:
    words = (*WORDS, "mode=features", "mode.regressor=null", "hydra.run.dir=killed")
    run(home, "transfer", *words)
    before = pd.read_csv(home / "killed" / "predictions.csv")
    taken = run(home, "transfer", *words, code=2)
    assert "holds a run that is finished" in taken.stderr, "a finished run stays as it is"

    status = json.loads((home / "killed" / "status.json").read_text())
    (home / "killed" / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    for name in ("metrics.json", "predictions.csv"):
        (home / "killed" / name).unlink()
    for file in (home / "killed" / "folds").glob("*-1-?.json"):
        file.unlink()
    shutil.rmtree(home / "killed" / "model")
    kept = {file.name: file.stat().st_mtime_ns for file in (home / "killed" / "folds").glob("*.json")}
    assert len(kept) == 6
    run(home, "transfer", *words)
    assert "6 of 12 fits are there already" in said(home / "killed")
    assert {name: (home / "killed" / "folds" / name).stat().st_mtime_ns for name in kept} == kept
    after = pd.read_csv(home / "killed" / "predictions.csv")
    assert np.abs(after.prediction - before.prediction).max() < 1e-4

    (home / "killed" / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    shutil.rmtree(home / "killed" / "model")
    run(home, "transfer", *words, "mode.level=[0]")
    text = said(home / "killed").rpartition("fits are there already")[2]
    assert text.count("features, repeat") == 2, "other settings are other fits"
    assert "(6 of 6)" in text
    assert "scratch, repeat" not in text, "scratch stays"


def test_a_column_of_the_table_groups(home: Path) -> None:
    words = ["mode=features", "split.group=series", "split.compare=none", "hydra.run.dir=grouped"]
    run(home, "transfer", *WITH, *words)
    folds = pd.read_csv(home / "grouped" / "folds.csv")
    series = pd.read_csv(home / "table.csv").set_index("id").series
    assert (folds.assign(series=folds.id.map(series)).groupby(["repeat", "series"]).fold.nunique() == 1).all()
    other = [word.replace("series", "colour").replace("grouped", "other") for word in words]
    assert "has no column 'colour'" in run(home, "transfer", *WITH, *other, code=3).stderr


def test_other_stages_refuse_it(home: Path) -> None:
    done = run(home, "pretrain", "split=cv", "fit.epochs=1", code=2)
    assert "only tltool transfer does" in done.stderr
