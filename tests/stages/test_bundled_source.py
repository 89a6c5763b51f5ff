"""With no pretraining before: a transfer takes the bundled model, says so, and predicts from its own files."""

import json
from pathlib import Path

import pandas as pd
import pytest
from commands import run
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter

from tltool.data.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

FEW = ["split.train_size=30", "mode=features"]


@pytest.fixture
def own(demo: Store, tmp_path: Path) -> Path:
    """A folder with 40 structures and a table of gaps that were made up."""
    (tmp_path / "own").mkdir()
    lines = ["id,gap_eV"]
    for row in range(40):
        crystal = demo.crystal(row)
        structure = Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac)
        CifWriter(structure).write_file(tmp_path / "own" / f"c{row}.cif")
        lines.append(f"c{row},{row / 10}")
    (tmp_path / "own" / "id_prop.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_own_structures_and_a_table_are_enough(own: Path) -> None:
    words = ["target=folder", "target.data.root=own", "target.data.quantities=[gap]"]
    done = run(own, "transfer", *words, "target.data.adapter.columns=[gap_eV]", "mode=features")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("There is no finished pretraining under runs") == 1
    assert "Source: bundled/" in said
    assert "in the training data of the source" in said  # the audit
    (metrics,) = own.rglob("metrics.json")
    assert json.loads(metrics.read_text())["source"].startswith("bundled/")
    done = run(own, "predict", "input=own/c3.cif", "output=p.csv")
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(own / "p.csv").quantity.tolist() == ["gap"]


def test_a_sweep_says_it_once_and_a_name_is_enough(own: Path) -> None:
    done = run(own, "transfer", "-m", *FEW, "mode/regressor=ridge,svr")
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("There is no finished pretraining") == 1
    done = run(own, "transfer", *FEW, "source=bundled/cgcnn")
    assert done.returncode == 0, done.stderr
    assert "There is no finished pretraining" not in done.stdout + done.stderr


def test_a_bundled_model_predicts_at_once(own: Path) -> None:
    done = run(own, "predict", "model=bundled", "input=own/c1.cif", "output=p.csv")
    assert done.returncode == 0, done.stderr
    assert "Model: bundled/" in done.stderr
    assert pd.read_csv(own / "p.csv").quantity.tolist() == ["e_form", "gap"]


@pytest.mark.parametrize("words", [["transfer", "source=bundled/cgnn"], ["predict", "model=bundled/cgnn", "input=own"]])
def test_an_unknown_name_ends_in_one_sentence(own: Path, words: list[str]) -> None:
    done = run(own, *words, code=4)
    assert "There is no pretrained model bundled/cgnn in tltool; use one of bundled/cgcnn" in done.stderr


def test_several_sources_give_their_features_and_one_mode_takes_one(own: Path) -> None:
    both = "source=[bundled/cgcnn,bundled/megnet]"
    done = run(own, "transfer", *FEW, both, "mode/regressor=additive_gp", "mode.level=[1]", "split.train_size=40")
    assert done.returncode == 0, done.stderr
    assert "Further source: bundled/megnet" in done.stderr
    assert "megnet_level_1" in done.stderr
    (metrics,) = own.rglob("metrics.json")
    found = json.loads(metrics.read_text())
    assert found["source"] == "[bundled/cgcnn,bundled/megnet]"
    done = run(own, "eval")
    assert done.returncode == 0, done.stderr
    again = json.loads(next(own.rglob("eval/*/metrics.json")).read_text())
    (name,) = found["quantities"]
    assert again["quantities"][name]["test"]["MAE"] == pytest.approx(found["quantities"][name]["test"]["MAE"])
    done = run(own, "transfer", "split.train_size=30", "mode=finetune", both, code=2)
    assert "mode=finetune starts from one source; name one, or use mode=features or mode=auto" in done.stderr
