from pathlib import Path

import pytest
from run_folders import make_run

from tltool.reporting.verdict import so_far

SETTINGS = {"fit": {"epochs": 100}, "optimiser": {"lr": 0.004}}


def runs_of(folder: Path, mode: str, maes: list[float], **changes) -> Path:
    last = folder
    for seed, mae in enumerate(maes):
        last = make_run(folder / f"{mode}{seed}{len(changes)}", mode, seed, mae, **{"settings": SETTINGS} | changes)
    return last


def test_no_pair_says_how_to_get_one(tmp_path: Path) -> None:
    here = make_run(tmp_path / "now", state="running")
    (line,) = so_far(here, tmp_path / "nowhere")
    assert "there is none. 'tltool transfer -m mode=scratch,finetune seed=0,1,2,3,4'" in line
    make_run(tmp_path / "s", "scratch", seed=7)
    assert so_far(here, tmp_path) == [line]
    assert so_far(tmp_path / "s", tmp_path) == []


def test_one_pair_is_no_verdict(tmp_path: Path) -> None:
    here = make_run(tmp_path / "now", mae=0.15, state="running")
    make_run(tmp_path / "s", "scratch", mae=0.1)
    (line,) = so_far(here, tmp_path)
    assert line.startswith(
        "Against scratch with this seed and split: test MAE of log10_K_VRH 0.0500 log10(GPa) higher."
    )
    assert "One pair is no verdict" in line


@pytest.mark.parametrize(
    ("maes", "words"),
    [
        (
            [0.10, 0.12, 0.08],
            "Positive transfer so far over 3 pairs: test MAE of log10_K_VRH on average 0.100 log10(GPa) lower",
        ),
        ([0.30, 0.32, 0.28], "Negative transfer so far over 3 pairs"),
        ([0.10, 0.30, 0.21], "Neutral so far over 3 pairs"),
    ],
)
def test_verdict_over_pairs(tmp_path: Path, maes: list[float], words: str) -> None:
    runs_of(tmp_path, "scratch", [0.2, 0.2, 0.2])
    here = runs_of(tmp_path, "finetune", maes)
    (line,) = so_far(here, tmp_path)
    assert words in line
    assert "by signs, p 0.25" in line or "Neutral" in line


def test_only_its_like_counts(tmp_path: Path) -> None:
    runs_of(tmp_path, "scratch", [0.2, 0.2, 0.2])
    here = runs_of(tmp_path, "finetune", [0.10, 0.12, 0.08])
    expected = so_far(here, tmp_path)
    runs_of(tmp_path, "finetune", [0.9, 0.9, 0.9], source="another")
    runs_of(tmp_path / "b", "finetune", [0.9, 0.9, 0.9], settings=SETTINGS | {"fit": {"epochs": 1}})
    runs_of(tmp_path / "c", "scratch", [0.9, 0.9, 0.9], settings=SETTINGS | {"fit": {"epochs": 1}})
    make_run(tmp_path / "d", "scratch", 0, 0.9, size=50)
    assert so_far(here, tmp_path) == expected
    forest = {"mode": {"regressor": {"random_state": 0}}}
    other = {"mode": {"regressor": {"random_state": 1}}}
    a = make_run(tmp_path / "e", "features", 0, 0.1, settings=SETTINGS | forest)
    make_run(tmp_path / "f", "features", 1, 0.1, settings=SETTINGS | other)
    assert "over 2 pairs" in so_far(a, tmp_path)[0]
