"""Several functionals in one training, from the files to a prediction of each; and on to a functional that is new."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import run
from omegaconf import OmegaConf
from pymatgen.core import Lattice, Structure

from tltool.data.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

ROWS = range(0, 360, 3)
ONE = ["target=table", "target.data.root=gaps.jsonl", "target.data.quantities=[gap]", "target.data.name=measured"]
ONE += ["target.data.adapter.id_column=material_id", "target.data.adapter.columns=[gap_hse]"]
QUICK = ["mode=features", "mode.level=trunk", "split.test=0.3", "overlap=none"]


@pytest.fixture(scope="module")
def home(demo: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of gaps that are the same for all crystals and differ by the functional, and a model of all three."""
    folder = tmp_path_factory.mktemp("functionals")
    lines = []
    (folder / "files").mkdir()
    for n, row in enumerate(ROWS):
        crystal = demo.crystal(row)
        structure = Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac).as_dict()
        gaps = {"gap_pbe": 1.0 + 0.01 * (n % 3), "gap_hse": 2.0, "gap_gllbsc": None if n % 4 == 0 else 4.0}
        lines.append(json.dumps({"material_id": demo.ids[row], "structure": structure, "q": n % 2} | gaps))
        if n < 5:
            (folder / "files" / f"{demo.ids[row]}.json").write_text(json.dumps(structure))
    (folder / "gaps.jsonl").write_text("\n".join(lines))
    run(folder, "pretrain", "data=gaps_all", "data.root=gaps.jsonl", "split=hash", "split.test=0.2", "fit.epochs=40",
        "fit.ema=0", "optimiser.lr=0.01", "overlap=none", "hydra.run.dir=all")  # fmt: skip
    return folder


def content(home: Path, name: str) -> Any:
    return json.loads((home / name).read_text())


def test_the_model_tells_them_apart(home: Path) -> None:
    found = content(home, "all/metrics.json")["quantities"]["gap"]["functionals"]
    assert found.keys() == {"PBE", "HSE", "GLLB-SC"}
    assert max(one["MAE"] for one in found.values()) < 0.4  # without a word on the functional it is 0.9
    table = pd.read_csv(home / "all" / "predictions.csv")
    parts = table.assign(own=table.id.str.partition(":")[2]).groupby("own").split.nunique()
    assert parts.max() == 1
    assert len(parts) == len(ROWS)
    spec = OmegaConf.load(home / "all" / "model" / "model.yaml")
    assert (spec.functionals, spec.functional) == (["PBE", "HSE", "GLLB-SC"], None)


def test_predict_and_eval_name_one(home: Path) -> None:
    for name, gap in (("HSE", 2.0), ("GLLB-SC", 4.0)):
        run(home, "predict", "model=all", "input=files", f"functional={name}", "output=out.csv")
        assert pd.read_csv(home / "out.csv").prediction.mean() == pytest.approx(gap, abs=0.5)
    said = run(home, "predict", "model=all", "input=files", code=2).stderr
    assert "has several functionals (PBE, HSE, GLLB-SC); choose one as functional=NAME" in said

    run(home, "eval", "model=all", "hydra.run.dir=own")
    before, after = (content(home, f"{k}/metrics.json")["quantities"]["gap"] for k in ("all", "own"))
    assert after["functionals"]["HSE"]["MAE"] == pytest.approx(before["functionals"]["HSE"]["MAE"], rel=1e-3)
    other = ["data=gaps_hse", "data.root=gaps.jsonl", "overlap=none"]
    run(home, "eval", "model=all", *other, "hydra.run.dir=hse")
    run(home, "eval", "model=all", *other, "functional=PBE", "hydra.run.dir=as_pbe")
    maes = [content(home, f"{k}/metrics.json")["quantities"]["gap"]["test"]["MAE"] for k in ("hse", "as_pbe")]
    assert maes[0] < 0.4 < 0.6 < maes[1]


def test_transfer_to_a_known_and_to_a_new_functional(home: Path) -> None:
    done = run(home, "transfer", "target=gaps_hse", "target.data.root=gaps.jsonl", "source=all", *QUICK,
               "hydra.run.dir=known")  # fmt: skip
    assert "new to the source" not in done.stderr
    assert OmegaConf.load(home / "known" / "model" / "model.yaml").functional == "HSE"
    done = run(home, "transfer", *ONE, "source=all", *QUICK, "hydra.run.dir=new")
    assert "The functional measured is new to the source; its vector starts from the mean of PBE, HSE" in done.stderr
    spec = OmegaConf.load(home / "new" / "model" / "model.yaml")
    assert (spec.functionals[-1], spec.functional, "new_functionals" in spec) == ("measured", "measured", False)
    run(home, "predict", "model=new", "input=files", "output=new.csv")
    assert np.isfinite(pd.read_csv(home / "new.csv").prediction).all()


def test_a_number_of_the_crystal_begins_the_state(home: Path) -> None:
    run(home, "pretrain", "data=gaps_hse", "data.root=gaps.jsonl", "+data.adapter.tags.charge=q", "state=[charge]",
        "encoder=megnet", "fit.epochs=1", "overlap=none", "hydra.run.dir=charged")  # fmt: skip
    spec = OmegaConf.load(home / "charged" / "model" / "model.yaml")
    assert (spec.state, spec.encoder.state_inputs) == (["charge"], 1)
    run(home, "predict", "model=charged", "input=files", "state={charge: 1}", "output=charged.csv")
    assert np.isfinite(pd.read_csv(home / "charged.csv").prediction).all()
    assert "give state={charge: NUMBER}" in run(home, "predict", "model=charged", "input=files", code=2).stderr


def test_alike_is_a_model_as_before(home: Path) -> None:
    run(home, "pretrain", "data=gaps_all", "data.root=gaps.jsonl", "functionals=alike", "fit.epochs=1", "overlap=none",
        "hydra.run.dir=alike")  # fmt: skip
    assert "functionals" not in OmegaConf.load(home / "alike" / "model" / "model.yaml")
