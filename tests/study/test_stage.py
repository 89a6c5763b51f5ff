"""``tltool study`` as its user runs it: planned, stopped, started again, and with a cell that fails."""

import copy
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
from commands import Done, run

from tltool.command_line import launch
from tltool.command_line.overrides import Cell
from tltool.command_line.usage import settings_of
from tltool.interruption import Terminated
from tltool.sweep import processes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_pictures")]

STUDY = """# A small study.
defaults:
  - blank
  - _self_
name: small
question: Does it help?
sources:
  tiny: {settings: [fit.epochs=1], sizes: [60, 90]}
targets:
  bulk_modulus: {}
modes:
  scratch: {}
  features: {}
sizes: [20, 40]
draws: 2
settings: [fit.epochs=1]
"""
BROKEN = """# The same with a mode that fails.
defaults:
  - small
  - _self_
modes:
  frozen: {mode: freeze, settings: ['mode.parts=[encodr]']}
sizes: [20]
draws: 1
"""
SMALL = ["--config-dir", "configs", "study=small", "device=cpu", "workers=1"]
FOLDER = Path("runs/study/small")
CELL = FOLDER / "cells/bulk_modulus/random/tiny-60/features/20/draw-0"


@pytest.fixture(scope="module", autouse=True)
def _composed_once() -> Iterator[None]:
    """All commands here compose the same few cells, which takes 0.2 s each."""
    compose, kept = launch.cell, {}

    def cell(stage: str, words: Sequence[str], folders: Iterable[Path]) -> Cell:
        key = (stage, tuple(words), tuple(folders))
        if key not in kept:
            kept[key] = compose(*key)
        return copy.deepcopy(kept[key])

    with patch.object(launch, "cell", cell):
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the studies above."""
    home = tmp_path_factory.mktemp("home")
    (home / "configs/study").mkdir(parents=True)
    (home / "configs/study/small.yaml").write_text(STUDY)
    (home / "configs/study/broken.yaml").write_text(BROKEN)
    return home


@pytest.fixture(scope="module")
def done(home: Path) -> Done:
    return run(home, "study", *SMALL)


def test_a_dry_run_counts_and_makes_nothing(home: Path) -> None:
    said = run(home, "study", *SMALL, "--dry-run").stderr
    # Scratch takes nothing of a source: 2 sizes, 2 draws; features from both sizes of the pretraining.
    assert "Study small: 12 cells and 2 pretrainings (2 sources, 1 target, 2 modes, 2 sizes, 1 kind of split)." in said
    assert re.search(r"2 pretrainings come first; they take about \d+ s \(by the rates of their encoders\)", said)
    assert "12 left; they take about" in said
    assert "the others by those of other targets or by rates that ship" in said
    assert not (home / FOLDER / "cells").exists()


def test_every_cell_is_a_row_of_the_table(home: Path, done: Done) -> None:
    table = pd.read_csv(home / FOLDER / "cells.csv")
    assert len(table) == 12
    assert set(table["state"]) == {"done"}
    assert set(table["source_rows"]) == {60, 90}
    both = ["folder", "error", "size", "draw"]
    assert pd.read_parquet(home / FOLDER / "cells.parquet")[both].astype(table[both].dtypes).equals(table[both])
    for _, line in table.iterrows():
        metrics = json.loads((home / line["folder"] / "metrics.json").read_text())
        assert line["error"] == metrics["quantities"]["log10_K_VRH"]["test"]["MAE"]
        assert (line["size"], line["draw"], line["seed"]) == (metrics["train_size"], metrics["draw"], metrics["seed"])
    assert (home / FOLDER / "claims.csv").read_text().startswith("study,claim,verdict,target")
    assert "Page: " in done.stderr
    assert "Study small" in (home / FOLDER / "page.html").read_text()


def test_draws_share_test_rows_and_small_sizes_are_parts_of_large_ones(home: Path, done: Done) -> None:
    def part(place: str, name: str) -> set[str]:
        table = pd.read_csv(home / FOLDER / "cells/bulk_modulus/random/tiny-60" / place / "split.csv")
        return set(table.loc[table["split"] == name, "id"])

    assert part("features/20/draw-0", "test") == part("scratch/40/draw-1", "test")
    assert part("features/20/draw-0", "train") < part("features/40/draw-0", "train")
    assert part("features/20/draw-0", "train") == part("scratch/20/draw-0", "train")
    assert part("features/20/draw-0", "train") != part("features/20/draw-1", "train")


def test_the_command_of_a_cell_repeats_it(home: Path, done: Done) -> None:
    words = shlex.split(json.loads((home / CELL / "environment.json").read_text())["command"])
    again = home / "again"
    run(home, *words[1:], f"hydra.run.dir={again}")
    errors = [json.loads((folder / "metrics.json").read_text())["quantities"] for folder in (home / CELL, again)]
    assert errors[0] == errors[1]


def test_what_is_done_never_runs_again(home: Path, done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "run", None)
    said = run(home, "study", *SMALL).stderr
    assert "12 cells are done, 0 failed, 0 left." in said
    assert "2 of 2 sources trained already" in said


def test_another_draw_runs_alone_and_its_time_is_measured(home: Path, done: Done) -> None:
    said = run(home, "study", *SMALL, "study.draws=3", "dry_run=true").stderr
    assert "12 cells are done, 0 failed, 6 left; they take about" in said
    assert "(6 by measured times of like cells)" in said


def test_an_interruption_says_how_it_goes_on(home: Path, done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object, **named: object) -> None:
        raise Terminated

    with monkeypatch.context() as changed:
        changed.setattr(processes, "run", stopped)
        said = run(home, "study", *SMALL, "study.draws=3", code=75).stderr
    assert (
        "the same command goes on with the cells that are left: tltool study --config-dir configs study=small" in said
    )
    assert json.loads((home / FOLDER / "status.json").read_text())["state"] == "interrupted"


def test_a_cell_that_fails_is_listed_and_left(home: Path, done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ["study=broken" if word == "study=small" else word for word in SMALL]
    said = run(home, "study", *own, code=2).stderr
    assert "2 of 5 cells failed; the table and the page have the others." in said
    assert "Failed: bulk_modulus, 20 rows, frozen from tiny-60, draw 0 and 1 more cell: " in said
    table = pd.read_csv(home / FOLDER / "cells.csv")
    assert (table["state"] == "failed").sum() == 2
    assert table.loc[table["state"] == "failed", "message"].str.contains("no part has the name 'encodr'").all()
    with monkeypatch.context() as changed:
        changed.setattr(processes, "run", None)
        run(home, "study", *own, code=2)
    assert "2 left" in run(home, "study", *own, "failed=again", "dry_run=true").stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["demoo"], "Did you mean 'demo'?"),
        (["demo", "study.sizess=[1]"], "Did you mean 'study.sizes'?"),
        (["demo", "study.settings=['fit.epocs=3']"], "Did you mean 'fit.epochs'?"),
        (
            ["demo", "study.settings=['mode.l2_sp=1']"],
            "no key 'mode.l2_sp'",
        ),
        (["demo", "failed=no"], "failed=no is not known; use leave or again."),
        (["demo", "pilot=0"], "pilot=0 must be a number of draws, or null."),
        (["demo", "study.splits.random=['split=ids','split.file=x.csv']"], "study.splits.random sets no sizes"),
    ],
    ids=str,
)
def test_mistakes_end_before_anything_is_computed(tmp_path: Path, words: list[str], says: str) -> None:
    assert says in run(tmp_path, "study", *words, code=2).stderr
    assert not list(tmp_path.glob("runs/study/*/cells"))


def test_the_short_form_of_the_command() -> None:
    assert settings_of("study", ["demo", "--dry-run", "seed=1"]) == ["study=demo", "dry_run=true", "seed=1"]
    assert settings_of("study", ["--dry-run", "demo"]) == ["dry_run=true", "study=demo"]
    assert settings_of("study", ["--config-dir", "DIR", "study=mine"]) == ["--config-dir", "DIR", "study=mine"]
    assert settings_of("transfer", ["demo"]) == ["demo"]
