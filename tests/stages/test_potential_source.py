"""A frozen potential as a source: transfer, eval and predict through a made-up one, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from commands import Done, run
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from tiny_potential import NEVER, Tiny, install

from tltool.data.store import Store
from tltool.potentials import catalogue

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

FEW = ["target=folder", "target.data.root=own", "target.data.quantities=[gap]", "cache=cache"]


@pytest.fixture
def own(demo: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 24 structures, one with radon, and labels that only the volume decides; ``tiny`` is known."""
    (tmp_path / "own").mkdir()
    lines = ["id,gap"]
    for row in range(24):
        crystal = demo.crystal(row)
        numbers = (
            np.where(np.arange(len(crystal.numbers)) == 0, NEVER, crystal.numbers) if row == 7 else crystal.numbers
        )
        structure = Structure(Lattice(crystal.lattice), numbers, crystal.frac)
        CifWriter(structure).write_file(tmp_path / "own" / f"c{row}.cif")
        lines.append(f"c{row},{structure.volume / len(structure) / 10:.4f}")
    (tmp_path / "own" / "id_prop.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "yaml").mkdir()
    install(monkeypatch, tmp_path / "yaml")
    return tmp_path


def transfer(own: Path, *words: str, code: int = 0) -> Done:
    done = run(own, "transfer", *FEW, *words, code=None)
    assert done.returncode == code, done.stderr
    return done


def test_features_are_computed_once_and_predict_has_the_same(own: Path) -> None:
    words = ["mode=features", "mode/regressor=additive_gp", "source=[bundled/cgcnn,tiny]"]
    done = transfer(own, *words, "hydra.run.dir=one")
    said = " ".join(done.stderr.split())
    assert "Further source: tiny, a frozen potential, trained on nothing." in said
    assert "tiny was trained on nothing, index not known" in said
    assert "in the training data of the source" in said  # the audit of the network goes on
    assert "tiny: computing features of 24 crystals, once" in said
    assert "tiny has no features of 1 crystals" in said
    assert "c7, radon is not known" in said
    assert "tiny_level_1" in said
    spec = yaml.safe_load((own / "one" / "model" / "model.yaml").read_text())
    assert [(one["name"], one["version"]) for one in spec["potentials"]] == [("tiny", "1")]

    calls = Tiny.calls
    again = transfer(own, *words, "hydra.run.dir=two")
    assert Tiny.calls == calls
    assert "computing features of 1 crystals" in " ".join(again.stderr.split())  # the one with radon
    first, second = (json.loads((own / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert first["quantities"]["gap"]["test"] == second["quantities"]["gap"]["test"]

    run(own, "eval", "model=one", "cache=cache", "hydra.run.dir=three")
    assert Tiny.calls == calls
    third = json.loads((own / "three" / "metrics.json").read_text())
    assert third["quantities"]["gap"]["test"]["MAE"] == pytest.approx(first["quantities"]["gap"]["test"]["MAE"])
    tested = pd.read_csv(own / "one" / "predictions.csv").set_index("id")
    run(own, "predict", "model=one", "input=own", "output=p.csv", "cache=cache")
    found = pd.read_csv(own / "p.csv").set_index("id")
    rows = [name for name in tested.index if name != "c7"]
    assert found.prediction[rows].to_numpy() == pytest.approx(tested.prediction[rows].to_numpy(), abs=1e-4)
    assert "radon is not known" in found.status["c7"]


def test_alone_it_needs_no_network_and_auto_leaves_out_what_trains(own: Path) -> None:
    transfer(own, "mode=features", "source=tiny", "mode.level=[1]", "hydra.run.dir=one")
    error = json.loads((own / "one" / "metrics.json").read_text())["quantities"]["gap"]["test"]["MAE"]
    assert error < 0.05  # the volume is a feature of level 1
    run(own, "predict", "model=one", "input=own/c1.cif", "output=p.csv", "cache=cache")
    assert pd.read_csv(own / "p.csv").status.tolist() == ["ok"]
    done = transfer(own, "mode=auto", "source=tiny", "mode.folds=2", "hydra.run.dir=two")
    said = " ".join(done.stderr.split())
    assert said.count("given up: A frozen potential gives features and has no network to train") == 3
    assert json.loads((own / "two" / "metrics.json").read_text())["source"] == "tiny"
    run(own, "predict", "model=two", "input=own/c1.cif", "output=q.csv", "cache=cache")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mode=finetune", "source=tiny"], "mode=finetune trains the network of its source"),
        (["mode=scratch", "source=tiny"], "mode=scratch trains the network of its source"),
        (["mode=lora", "source=[bundled,tiny]"], "mode=lora trains the network of its source"),
        (["mode=features", "source=tiny", "mode.level=[2]"], "level=[2] is not a level of this encoder; use 0 to 1"),
        (["mode=features", "source=tiny", "mode.level=trunk"], "take one network as source"),
        (["mode=features", "source=[tiny,tiny]"], "twice"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(own: Path, words: list[str], says: str) -> None:
    assert says in " ".join(transfer(own, *words, code=2).stderr.split())


def test_scratch_beside_a_network_does_without_it(own: Path) -> None:
    transfer(own, "mode=scratch", "source=[bundled,tiny]", "fit.epochs=1", "hydra.run.dir=one")
    assert Tiny.calls == 0
    run(own, "predict", "model=one", "input=own/c7.cif", "output=p.csv", "cache=cache")
    assert Tiny.calls == 0


def test_a_missing_package_and_other_weights_are_named(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transfer(own, "mode=features", "source=tiny", "hydra.run.dir=one")
    text = (own / "yaml" / "tiny.yaml").read_text()
    (own / "yaml" / "tiny.yaml").write_text(text.replace("2.0", "3.0"))
    done = run(own, "predict", "model=one", "input=own", "cache=cache", code=4)
    assert "made with the potential tiny of numpy 1" in " ".join(done.stderr.split())
    (own / "yaml" / "tiny.yaml").write_text(text.replace("numpy", "no_such_package"))
    for words in (["transfer", *FEW, "mode=features", "source=tiny"], ["predict", "model=one", "input=own"]):
        done = run(own, *words, code=2)
        said = " ".join(done.stderr.split())
        assert "needs the package no_such_package, which is not installed; run pip install" in said
    assert not catalogue.is_one("other")


def test_physics_is_computed_where_it_is_asked_for(own: Path) -> None:
    words = ["mode=features", "mode/regressor=additive_gp", "mode.level=[]", "mode.extra_features=[elements,elastic]"]
    done = transfer(own, *words, "source=tiny", "hydra.run.dir=one")
    said = " ".join(done.stderr.split())
    assert "tiny: computing mechanics of 24 crystals" in said
    assert "computing phonons" not in said
    assert "tiny_elastic" in said
    run(own, "predict", "model=one", "input=own/c1.cif", "output=p.csv", "cache=cache")
    assert pd.read_csv(own / "p.csv").status.tolist() == ["ok"]
    done = transfer(own, *words, "source=bundled", code=2)
    assert "elastic is what a potential predicts, and no source is one" in " ".join(done.stderr.split())
