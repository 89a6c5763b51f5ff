"""Learning the difference between two levels of theory: the lower level's value is added back wherever one looks."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import run
from pymatgen.core import Lattice, Structure
from support import ROOT, config

from tltool.data import cheaper_level, store
from tltool.data.record import Crystal, Record
from tltool.data.store import Store
from tltool.errors import DataError
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

ROWS = range(40)


def low(row: int) -> float:
    return float(np.sin(7 * row))


def high(row: int, store: Store) -> float:
    return low(row) + 1.0 + store.crystal(row).numbers.mean() / 50


@pytest.fixture(scope="module")
def home(demo: Store, source: PropertyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders with the same crystals and gaps of two levels of theory; the last crystal has only the high one."""
    folder = tmp_path_factory.mktemp("delta")
    checkpoint.save(folder / "source", source)
    for name, value in (("high", lambda row: high(row, demo)), ("low", low)):
        (folder / name).mkdir()
        rows = [row for row in ROWS if not (name == "low" and row == ROWS[-1])]
        for row in rows:
            crystal = demo.crystal(row)
            structure = Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac)
            (folder / name / f"{demo.ids[row]}.json").write_text(json.dumps(structure.as_dict()))
        lines = [f"{demo.ids[row]},{value(row)}" for row in rows]
        (folder / name / "id_prop.csv").write_text("id,label\n" + "\n".join(lines) + "\n")
    return folder


def test_a_cheaper_level_in_the_same_table_is_proposed(home: Path, demo: Store) -> None:
    rows = [
        {"id": demo.ids[row], "structure": json.loads((home / "high" / f"{demo.ids[row]}.json").read_text()),
         "gap_hse (eV)": high(row, demo), "gap_pbe": low(row), "gap_gw": 9.0}
        for row in ROWS
    ]  # fmt: skip
    (home / "both.json").write_text(json.dumps(rows))
    words = [
        "transfer", "target=table", "target.data.root=both.json", "target.data.quantities=[gap]",
        "target.data.adapter.columns=['gap_hse (eV)']", "mode=features", "split.test=0.3", "source=source",
    ]  # fmt: skip
    done = run(home, *words)
    assert done.returncode == 0, done.stderr
    assert "The table also has gap_pbe, the same quantity at a cheaper level of theory" in done.stderr.replace(
        "\n", " "
    )
    (line,) = [text for text in done.stderr.splitlines() if "+data@target.base=table" in text]
    told = shlex.split(line)
    assert told[:2] == ["tltool", "transfer"]
    assert "target.base.root=both.json" in told
    again = run(home, *told[1:], "hydra.run.dir=there")
    assert again.returncode == 0, again.stderr
    assert "a cheaper level of theory" not in again.stderr
    errors = [
        json.loads(path.read_text())["quantities"]["gap"]["test"]["MAE"]
        for path in (*home.glob("runs/transfer/*/metrics.json"), home / "there" / "metrics.json")
    ]
    assert errors[-1] < errors[0]


def test_the_column_of_one_quantity_among_several() -> None:
    adapter = {"labels": ["debye_temperature", "omega_log"], "columns": ["debye", "wlog"]}
    assert cheaper_level.column_of(adapter, "omega_log") == "wlog"
    assert cheaper_level.column_of({"labels": None, "columns": ["wlog"]}, "omega_log") == "wlog"
    assert cheaper_level.column_of({"columns": None}, "omega_log") == "omega_log"


@pytest.mark.parametrize("target", sorted(path.stem for path in (ROOT / "configs" / "target").glob("*.yaml")))
def test_every_target_has_a_column_for_each_quantity(target: str) -> None:
    data = config("transfer", f"target={target}")["target"]["data"]
    quantities = data["quantities"] or ["kappa", "gap"]
    columns = {cheaper_level.column_of(data.get("adapter") or {}, name) for name in quantities}
    assert len(columns) == len(quantities)


@pytest.mark.parametrize(
    ("learnt", "columns", "found"),
    [
        ("gap_hse", ["id", "gap_pbe", "gap_scan", "gap_hse", "gap_exp", "e_form_pbe"], ["gap_scan", "gap_pbe"]),
        ("band gap GLLB-SC (eV)", ["band_gap_PBE", "band gap LDA (eV)"], ["band_gap_PBE", "band gap LDA (eV)"]),
        ("gap_pbe", ["gap_hse", "gap_pbesol", "gap"], []),
        ("gap", ["gap_pbe"], []),
        ("gap_hse_minus_pbe", ["gap_pbe"], []),
    ],
)
def test_cheaper_columns_are_known_by_their_names(learnt: str, columns: list[str], found: list[str]) -> None:
    assert cheaper_level.cheaper_columns(columns, learnt) == found


def test_transfer_eval_and_predict(home: Path, demo: Store) -> None:
    done = run(
        home, "transfer", "target=folder", "target.data.root=high", "target.data.quantities=[gap]",
        "+data@target.base=folder", "target.base.root=low", "target.base.quantities=[gap]",
        "mode=features", "split.test=0.3", "source=source", "hydra.run.dir=here",
    )  # fmt: skip
    assert "1 of 40 crystals have no label for gap in folder" in done.stderr
    table = pd.read_csv(home / "here" / "predictions.csv").set_index("id")
    assert len(table) == 39
    for row in ROWS[:-1]:
        assert table.loc[demo.ids[row], "label"] == pytest.approx(high(row, demo), abs=1e-5)
    # The low level jumps from crystal to crystal as no network could learn from so few; the difference is smooth.
    test = json.loads((home / "here" / "metrics.json").read_text())["quantities"]["gap"]["test"]
    assert test["MAE"] < 0.4 * test["MAD"]
    assert test["MAE_base"] == pytest.approx((table[table.split == "test"].label - [
        low(list(demo.ids).index(name)) for name in table[table.split == "test"].index
    ]).abs().mean(), rel=1e-4)  # fmt: skip

    # By this the report tells it from runs that learn the values themselves.
    identity = json.loads((home / "here" / "metrics.json").read_text())["identity"]
    assert identity["base_name"] == "folder"
    assert identity["base"]

    run(home, "eval", "model=here", "hydra.run.dir=again")
    again = json.loads((home / "again" / "metrics.json").read_text())["quantities"]["gap"]["test"]
    assert again["MAE"] == pytest.approx(test["MAE"], rel=1e-3)
    other = ["eval", "model=here", "data=folder", "data.root=high", "data.quantities=[gap]"]
    assert "data@base=NAME" in run(home, *other, code=2).stderr
    run(home, *other, "data@base=folder", "base.root=low", "base.quantities=[gap]", "hydra.run.dir=other")
    assert json.loads((home / "other" / "metrics.json").read_text())["quantities"]["gap"]["test"]["n"] == 39

    assert "give base=TABLE.csv" in run(home, "predict", "model=here", "input=high", code=2).stderr
    values = "id,gap\n" + "\n".join(f"{demo.ids[row]},{low(row)}" for row in ROWS[:20])
    (home / "low.csv").write_text(values)
    run(home, "predict", "model=here", "input=high", "base=low.csv", "output=out.csv")
    out = pd.read_csv(home / "out.csv").set_index("id")
    for row in ROWS[:20]:
        assert out.loc[demo.ids[row], "prediction"] == pytest.approx(table.loc[demo.ids[row], "prediction"], abs=1e-3)
    assert "no gap in base=" in out.loc[demo.ids[30], "status"]
    assert "high/id_prop.csv: has no column 'gap'. Known: id, label." in run(
        home, "predict", "model=here", "input=high", "base=high/id_prop.csv", code=3
    ).stderr  # fmt: skip
    for wrong, words in {
        f"{demo.ids[30]},1_0": f"line 22, id '{demo.ids[30]}': gap is not a number alone",
        f"{demo.ids[0]},1.0": f"line 22 and line 2 have the same id '{demo.ids[0]}'",
        f"{demo.ids[30]},1,5": "line 22 (it begins with",
    }.items():
        (home / "low.csv").write_text(f"{values}\n{wrong}\n")
        assert words in run(home, "predict", "model=here", "input=high", "base=low.csv", code=3).stderr


def test_a_base_of_other_crystals() -> None:
    cube = Crystal(3 * np.eye(3), np.zeros((1, 3)), np.array([29]))

    def made(**names: str) -> Store:
        return store.gather([Record(n, cube, {"gap": 1.0}, {"mat_id": m} if m else {}) for n, m in names.items()], {})

    one = made(a="agm1", b="agm2", c="")
    np.testing.assert_array_equal(cheaper_level.base_labels(one, made(x="agm2", c="c"), ["gap"])[:, 0], [np.nan, 1, 1])
    with pytest.raises(DataError, match="no id in common"):
        cheaper_level.base_labels(one, made(a="", b=""), ["gap"])
    with pytest.raises(DataError, match="no label 'e_form'"):
        cheaper_level.base_labels(one, one, ["e_form"])
