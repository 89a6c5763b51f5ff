"""docs/tutorial.md works from start to end: its commands and its Python, one after another, in a folder as it shows."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from commands import run
from pymatgen.core import Lattice, Structure
from support import ROOT

from tltool.data import store
from tltool.data.dataset import BUNDLED

pytestmark = [pytest.mark.slow, pytest.mark.long]

BLOCKS = re.findall(
    r"^```(sh|python)\n(.*?)^```$",
    (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
SHORT = {"pretrain": ["fit.epochs=1", "split.train_size=200"], "transfer": ["split.train_size=24"]}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give the folders of the page: ``mine`` with bulk moduli under the name of its quantity, and ``new``."""
    elastic = store.load(BUNDLED / "elastic.h5")
    names = [chr(ord("A") + row) if row < 2 else f"crystal-{row}" for row in range(42)]
    for row, name in enumerate(names):
        crystal = elastic.crystal(row)
        folder = tmp_path / ("new" if row < 2 else "mine")
        folder.mkdir(exist_ok=True)
        Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac).to(str(folder / f"{name}.cif"))
    words = ("metal", "insulator")
    lines = [f"{name}.cif,{elastic.label('K_VRH')[row]},{words[row % 2]}" for row, name in enumerate(names) if row >= 2]
    (tmp_path / "mine" / "props.csv").write_text("\n".join(["file,kappa (W/mK),class", *lines]) + "\n")
    return tmp_path


def test_the_page_works_from_start_to_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    names: dict[str, object] = {}
    stages = []
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "docs/tutorial.md", "exec"), names)  # our own page
            continue
        for words in (shlex.split(line) for line in text.splitlines() if line.startswith("tltool ")):
            stage = words[1]
            few = ["split.repeats=1"] if "split=cv" in words else SHORT.get(stage, [])
            run(home, stage, *words[2:], *few, "workers=1")
            stages.append(stage)
    assert stages == ["transfer", "predict", *["transfer"] * 3, "report", "pretrain", "transfer"]

    table = pd.read_csv(home / "table.csv")
    assert list(table["id"]) == ["A", "B"]
    assert (table["lower"] < table["prediction"]).all()
    assert (table["prediction"] < table["upper"]).all()
    assert set(table["unit"]) == {"W/mK"}
    (folds,) = home.glob("runs/transfer/*/folds.csv")
    assert len(pd.read_csv(folds)["id"].unique()) == 40
    finished = [json.loads(file.read_text()) for file in home.glob("runs/transfer/**/metrics.json")]
    assert {one["mode"] for one in finished} >= {"features", "scratch", "finetune"}
    predicted = names["table"]
    assert isinstance(predicted, pd.DataFrame)
    assert list(predicted["status"] == "ok") == [True, True, False, False, False, False]
    assert getattr(names["features"], "shape", None) == (1, 64)
