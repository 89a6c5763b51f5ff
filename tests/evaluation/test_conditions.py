"""Conditions such as a temperature are inputs in every mode, and rows of one crystal stay together."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import run as run_command
from own_tables import CIF
from support import ROOT, a_fit, batches_of, config

from tltool import instantiate
from tltool.data import split_folds, splits
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.formats.rows.further_columns import CRYSTAL
from tltool.errors import ConfigError, DataError, InapplicableError
from tltool.evaluation import conditions
from tltool.evaluation.predictor import Predictor
from tltool.model.property_model import PropertyModel
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint
from tltool.transfer.steps import cross_validation

MODES = sorted(p.stem for p in (ROOT / "configs" / "mode").glob("*.yaml") if p.stem not in ("auto", "features"))
REGRESSORS = sorted(p.stem for p in (ROOT / "configs" / "mode" / "regressor").glob("*.yaml") if p.stem != "atom_set")
QUICK = {
    "random_forest": ["mode.regressor.n_estimators=20"],
    "additive_gp": ["mode.regressor.members=1", "mode.regressor.tail=null"],
}
NAMED = {"temperature": "K"}


def measured(part: Dataset) -> Dataset:
    """Return the data set with labels that depend on a temperature alone; pairs of rows are a crystal."""
    n = len(part.store)
    hot = np.random.default_rng(0).integers(0, 2, n)
    tags = {"temperature": [str(300 + 600 * k) for k in hot], CRYSTAL: [f"c{row // 2}" for row in range(n)]}
    store = replace(part.store, labels={"e_form": 2.0 * hot - 1.0}, tags={**part.store.tags, **tags})
    return replace(part, store=store)


@pytest.fixture(scope="module")
def whole(part: Dataset) -> Dataset:
    return measured(part)


@pytest.fixture(scope="module")
def taken(whole: Dataset, source: PropertyModel) -> tuple[PropertyModel, Batches]:
    return conditions.taken_up(source, batches_of(whole, seed=1, train_size=40), whole.store, NAMED)


def run(mode: str, taken: tuple[PropertyModel, Batches], *overrides: str, **keys: Any) -> PropertyModel:
    mode, *regressor = mode.split("/")
    node = config("transfer", f"mode={mode}", *(f"mode/regressor={name}" for name in regressor), *overrides)["mode"]
    return instantiate.call(node, *taken, a_fit(**keys))


def test_a_source_predicts_as_before_when_it_takes_conditions(
    taken: tuple[PropertyModel, Batches], source: PropertyModel, whole: Dataset
) -> None:
    wider, data = taken
    assert "conditions" not in source.spec
    assert wider.spec["conditions"] == NAMED
    np.testing.assert_allclose(predict(wider, data, "test"), predict(source, data, "test"), atol=1e-6)
    assert conditions.taken_up(wider, data, whole.store, NAMED)[0] is wider


@pytest.mark.parametrize("mode", [*MODES, *(f"features/{name}" for name in REGRESSORS)])
def test_every_mode_learns_from_a_condition(
    mode: str, taken: tuple[PropertyModel, Batches], whole: Dataset, tmp_path: Path
) -> None:
    """The labels are those of the temperature; the model says so of new crystals too, from a file as from memory."""
    keys = {"epochs": 25, "batch_size": 10, "select": "last", "ema": 0.0, "reference": False}
    model = run(mode, taken, *QUICK.get(mode.rpartition("/")[2], []), **keys)
    model.spec |= {"elements": list(range(1, 100))}
    checkpoint.save(tmp_path / "model", model)
    crystals = [(str(row), whole.store.crystal(row)) for row in range(8)]
    tables = [
        Predictor(checkpoint.load(tmp_path / "model"), conditions={"temperature": t}).table(crystals)
        for t in (300.0, 900.0)
    ]
    warmer = (tables[1].prediction - tables[0].prediction).mean()
    assert warmer > 0.8


def test_what_reads_the_crystal_alone_says_so(taken: tuple[PropertyModel, Batches]) -> None:
    for words in (["mode/regressor=atom_set"], ["mode.level=trunk"]):
        with pytest.raises(InapplicableError, match=r"read the crystal alone, and data\.conditions names more"):
            run("features", taken, *words)
    with pytest.raises(ConfigError, match=r"freezes the layer that reads data\.conditions; leave the trunk out"):
        run("freeze", taken, "mode.parts=[encoder,trunk]")


def test_conditions_that_do_not_fit_are_named(
    taken: tuple[PropertyModel, Batches], whole: Dataset, source: PropertyModel
) -> None:
    wider, data = taken
    with pytest.raises(ConfigError, match=r"takes the conditions temperature, and data\.conditions=.'pressure'. names"):
        conditions.taken_up(wider, data, whole.store, {"pressure": "GPa"})
    with pytest.raises(DataError, match="temperature in K, and the data have it in °C; convert"):
        conditions.taken_up(wider, data, whole.store, {"temperature": "°C"})
    with pytest.raises(DataError, match=r"does not say it; name its column, with data\.conditions=\[pressure\]"):
        conditions.placed(data, whole.store, {"pressure": ""})
    with pytest.raises(ConfigError, match=r"does not match the model; give conditions=\{temperature: NUMBER\}"):
        Predictor(wider, conditions={"pressure": 1.0})
    with pytest.raises(ConfigError, match="does not match the model; give no conditions="):
        Predictor(source, conditions={"temperature": 1.0})
    with pytest.raises(ConfigError, match=r"takes temperature besides the crystal; put a table"):
        Predictor(wider).table([("a", whole.store.crystal(0))])
    with pytest.raises(ConfigError, match="pretraining takes none"):
        conditions.refuse({"adapter": {"conditions": {"temperature": "temperature (K)"}}})


def together(whole: Dataset, parts: list[np.ndarray]) -> bool:
    found = [{row // 2 for row in part.tolist()} for part in parts]
    return all(not one & other for k, one in enumerate(found) for other in found[:k])


@pytest.mark.parametrize("split", ["random", "cv", "hash"])
def test_rows_of_one_crystal_are_in_one_part(split: str, whole: Dataset) -> None:
    labels = whole.store.label("e_form")
    cuts: dict[str, Callable[[], list[list[np.ndarray]]]] = {
        "random": lambda: [
            list(splits.random(whole.store, labels, seed=0, draw=1, val=0.2, test=0.2, train_size=None))
        ],
        "hash": lambda: [
            list(splits.by_hash(whole.store, labels, seed=0, group="id", val=0.2, test=0.2, train_size=None))
        ],
        "cv": lambda: [
            list(fold.split)
            for fold in split_folds.cross_validation(
                whole.store, labels, folds=4, repeats=2, group=None, seed=0, val=0.1, compare="none"
            ).parts
        ],
    }
    for parts in cuts[split]():
        assert together(whole, parts)
        assert len(parts[2]) > 4


def test_folds_within_the_training_rows_keep_crystals_together(whole: Dataset) -> None:
    data = batches_of(whole, seed=1)
    seen = []
    for fold, held in cross_validation.cut(data, a_fit().settings, 4, 0):
        parts = [fold.split[name].numpy() for name in ("train", "test")]
        assert together(whole, parts)
        assert int(held.sum()) == len(parts[1]) > 0
        seen += parts[1].tolist()
    assert sorted(seen) == sorted(data.split["train"].tolist())


def test_from_a_folder_to_a_table_of_new_structures(tmp_path: Path) -> None:
    """Temperatures of new structures come from a table beside them, or from the command line for all."""
    root, new, table = tmp_path / "mine", tmp_path / "new", tmp_path / "table.csv"
    lines = ["file,kappa (W/mK),temperature (K)"]
    for folder, n in ((root, 8), (new, 3)):
        folder.mkdir()
        for k in range(n):
            text = CIF.replace("length_a 4", f"length_a {4 + k / 10}")
            (folder / f"{folder.name}{k}.cif").write_text(text)
            lines += [f"mine{k}.cif,{k + t / 300},{t}" for t in (300, 600)] if folder == root else []
    (root / "props.csv").write_text("\n".join(lines))
    own = ["target=folder", f"target.data.root={root}", "target.data.conditions=[temperature]", "overlap=none"]
    words = ["source=bundled", "mode=features", "split=cv", "split.repeats=1", "split.compare=none"]
    run_command(tmp_path, "transfer", *own, *words)
    (new / "t.csv").write_text("file,temperature (K)\nnew0.cif,300\nnew0.cif,900\nnew1.cif,\n")
    of_new = ["predict", f"input={new}", f"output={table}"]
    run_command(tmp_path, *of_new)
    found = pd.read_csv(table).set_index("id")
    assert list(found.index) == ["new0@300", "new0@900", "new1", "new2"]
    assert found.prediction["new0@900"] > found.prediction["new0@300"]
    assert found.status["new1"] == "new1: no temperature"
    assert found.status["new2"] == "new2: no row in t.csv"
    (new / "t.csv").write_text("file,T\nnew0.cif,300\n")
    done = run_command(tmp_path, *of_new, code=3)
    assert "has no column 'temperature', which the model takes besides the crystal" in done.stdout + done.stderr
    (new / "t.csv").unlink()
    done = run_command(tmp_path, *of_new, code=3)
    assert "put a table with columns file and temperature beside the structures" in done.stdout + done.stderr
    run_command(tmp_path, *of_new, "conditions={temperature: 300}")
    found = pd.read_csv(table)
    assert list(found.id) == ["new0", "new1", "new2"]
    assert found.prediction.notna().all()
