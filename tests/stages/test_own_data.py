"""The job on a user's own files: a folder of structures with a table, one of them bad, and a folder to predict on."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run, start
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from support import batches_of

import tltool
from tltool.data.dataset import Dataset
from tltool.data.store import Store
from tltool.model.property_model import PropertyModel
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint

pytestmark = pytest.mark.slow

TARGET = [
    "target=folder",
    "target.data.root=own",
    "target.data.quantities=[gap]",
    "target.data.adapter.columns=[gap_eV]",
]


def structure(store: Store, row: int) -> Structure:
    crystal = store.crystal(row)
    return Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac)


@pytest.fixture(scope="module")
def home(demo: Store, source: PropertyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with own data, files to predict on, and a source model."""
    folder = tmp_path_factory.mktemp("own")
    checkpoint.save(folder / "source", source)
    (folder / "own").mkdir()
    lines = ["id,gap_eV"]
    for row in range(40):
        CifWriter(structure(demo, row)).write_file(folder / "own" / f"{demo.ids[row]}.cif")
        lines.append(f"{demo.ids[row]},{row / 10 if row != 7 else ''}")
    (folder / "own" / "broken.cif").write_text("data_x\n_cell_length_a oops\nloop_\n_atom_site_label\n")
    lines.append("broken,1.0")
    lines.append("missing,1.0")
    (folder / "own" / "id_prop.csv").write_text("\n".join(lines) + "\n")

    (folder / "new" / "deep").mkdir(parents=True)
    structure(demo, 50).to(str(folder / "new" / "POSCAR"))
    structure(demo, 51).to(str(folder / "new" / "deep" / "POSCAR"))
    CifWriter(structure(demo, 52)).write_file(folder / "new" / "fine.cif")
    (folder / "new" / "bad.cif").write_text("not a cif")
    (folder / "new" / "several.json").write_text(json.dumps([structure(demo, r).as_dict() for r in (53, 54)]))
    return folder


def test_transfer_and_predict_on_own_files(home: Path, demo: Store) -> None:
    done = run(home, "transfer", *TARGET, "source=source", "mode=features", "hydra.run.dir=here")
    assert "39 records kept" in done.stderr
    assert "no structure file" in done.stderr
    table = pd.read_csv(home / "here" / "predictions.csv")
    assert len(table) == 39
    assert set(table.unit) == {"eV"}

    done = start(home, "predict", "model=here", "input=new", "output=out.csv")
    assert "5 structures predicted, 1 not" in done.stderr
    table = pd.read_csv(home / "out.csv").set_index("id")
    assert set(table.index) == {"./POSCAR", "deep/POSCAR", "fine", "bad", "several-0", "several-1"}
    assert "bad.cif" in table.loc["bad", "status"]
    assert np.isnan(table.loc["bad", "prediction"])
    good = table.drop("bad")
    assert set(good.status) == {"ok"}
    assert set(good.unit) == {"eV"}
    assert set(good.loc["fine", "elements"].split()) == set(structure(demo, 52).symbol_set)
    assert good.prediction.std() > 0

    called = tltool.load_model(home / "here").predict([structure(demo, r) for r in (52, 53)])
    np.testing.assert_allclose(called.prediction, good.loc[["fine", "several-0"], "prediction"], atol=2e-4)

    everything = run(
        home,
        "eval",
        "model=here",
        "data=folder",
        "data.root=own",
        "data.quantities=[gap]",
        "data.adapter.columns=[gap_eV]",
    )
    assert "39" in everything.stdout


def test_a_disordered_structure_is_a_row(source: PropertyModel) -> None:
    fine = Structure(Lattice.cubic(4.2), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    mixed = Structure(Lattice.cubic(4.2), [{"Na": 0.5, "K": 0.5}, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    table = tltool.Predictor(source).predict([fine, mixed, fine])
    assert table.status.tolist()[0] == table.status.tolist()[2] == "ok"
    assert "partly occupied" in table.status[1]
    assert table.prediction[0] == pytest.approx(table.prediction[2])
    assert table.formula[0] == "NaCl"


def test_predictions_of_the_table_are_those_of_training(source: PropertyModel, part: Dataset) -> None:
    data = batches_of(part)
    rows = data.split["test"].tolist()
    expected = predict(source, data, "test")[:, 0]
    items = [(part.store.ids[row], part.store.crystal(row)) for row in rows]
    table = tltool.Predictor(source).table(items, batch_size=7)
    np.testing.assert_allclose(table.prediction, expected, atol=1e-5)
    unseen = [set(words.split()) for words in table.unseen_elements]
    assert any(unseen) == any(
        set(part.store.crystal(row).numbers.tolist()) - set(source.spec["elements"]) for row in rows
    )


def test_a_property_of_ones_own_is_defined_on_the_command_line_and_kept_with_the_model(home: Path) -> None:
    table = pd.read_csv(home / "own" / "id_prop.csv")
    table["kappa"] = table.gap_eV + 0.5
    table.to_csv(home / "own" / "kappa.csv", index=False, sep=";")
    words = ["target=folder", "target.data.root=own", "target.data.adapter.table=kappa.csv"]
    words += ["target.data.quantities=[kappa]", "target.data.define={kappa: {unit: W/mK, scale: log}}", "source=source"]
    done = run(home, "transfer", *words, "mode=features", "hydra.run.dir=kappa")
    assert "kappa is a number in W/mK (as data.define says), scale log" in done.stderr
    assert "kappa is learnt as its logarithm" in done.stderr
    run(home, "predict", "model=kappa/model", "input=new", "output=kappa.csv")
    assert set(pd.read_csv(home / "kappa.csv").unit) == {"W/mK"}
    other = ["data=folder", "data.root=own", "data.adapter.table=kappa.csv", "data.quantities=[kappa]"]
    done = run(home, "eval", "model=kappa", *other, "data.define={kappa: {unit: W/cmK}}", code=4)
    assert "The model has kappa in W/mK, and the data have it in W/cmK; convert the labels" in done.stderr
