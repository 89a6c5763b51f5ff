from pathlib import Path

import pytest
from run_folders import make_run

from tltool.reporting.verdict import so_far

SETTINGS = {"fit": {"epochs": 100, "loss": "huber"}, "optimiser": {"_target_": "torch.optim.AdamW", "lr": 0.004}}
BIG = 1000  # training crystals, so many that seeds make the pairs


def runs_of(folder: Path, mode: str, maes: list[float], **changes) -> Path:
    last = folder
    for seed, mae in enumerate(maes):
        last = make_run(folder / f"{mode}{seed}{len(changes)}", mode, seed, mae, **{"settings": SETTINGS} | changes)
    return last


def texts(here: Path, runs: Path) -> list[str]:
    return [said.text for said in so_far(here, runs)]


def test_no_pair_says_how_to_get_one(tmp_path: Path) -> None:
    here = make_run(tmp_path / "now", size=BIG, state="running", command="tltool transfer target=bulk_modulus")
    first, second = so_far(here, tmp_path / "nowhere")
    assert first.text == (
        "log10_K_VRH: transfer not known: there is no scratch run with this seed and the same rows yet."
    )
    assert second.text == "log10_K_VRH: 5 seeds give 5 pairs."
    assert second.command == (
        "tltool transfer -m target=bulk_modulus source=runs/pretrain/model mode=scratch,finetune seed=0,1,2,3,4"
    )
    make_run(tmp_path / "s", "scratch", seed=7, size=BIG)
    assert texts(here, tmp_path)[1] == "log10_K_VRH: the scratch run s cannot be the baseline. Seed is 0 and 7."
    assert so_far(tmp_path / "s", tmp_path) == []


def test_one_pair_is_no_verdict(tmp_path: Path) -> None:
    here = make_run(tmp_path / "now", mae=0.15, size=BIG, state="running")
    make_run(tmp_path / "s", "scratch", mae=0.1, size=BIG)
    first, second = texts(here, tmp_path)
    assert first == (
        "log10_K_VRH: the test MAE is 0.0500 log10(GPa) higher than that of scratch with the same seed and rows. "
        "One pair is not enough for a verdict."
    )
    assert second == "log10_K_VRH: 5 seeds give 5 pairs."


@pytest.mark.parametrize(
    ("maes", "words"),
    [
        (
            [0.10, 0.12, 0.08],
            "log10_K_VRH: positive transfer over 3 pairs so far. The mean test MAE is 0.100 log10(GPa) lower",
        ),
        ([0.30, 0.32, 0.28], "log10_K_VRH: negative transfer over 3 pairs so far."),
        ([0.10, 0.30, 0.21], "log10_K_VRH: neutral over 3 pairs so far."),
    ],
)
def test_verdict_over_pairs(tmp_path: Path, maes: list[float], words: str) -> None:
    runs_of(tmp_path, "scratch", [0.2, 0.2, 0.2])
    here = runs_of(tmp_path, "finetune", maes)
    first, *others = texts(here, tmp_path)
    assert words in first
    if "neutral" in words:
        assert "draws are needed to detect a difference" in others[0]
    else:
        assert "p 0.25 (signs)" in first
        assert others == []


@pytest.mark.parametrize(
    "other",
    [
        {"source": "another"},
        {"settings": SETTINGS | {"mode": {"head": "keep"}}},
        {"settings": SETTINGS | {"fit": {"epochs": 1, "loss": "huber"}}},
        {"settings": SETTINGS | {"fit": {"epochs": 100, "loss": "l1"}}},
        {"settings": SETTINGS | {"optimiser": {"_target_": "torch.optim.AdamW", "lr": 0.001}}},
        {"settings": SETTINGS | {"optimiser": {"_target_": "torch.optim.SGD", "lr": 0.004}}},
        {"size": 50},
        {"identity": {"data": "other content"}},
        {"identity": {"shape": "wider"}},
        {"identity": {"base": "low", "base_name": "PBE"}},
        {"identity": {"split": "prototype"}},
        {"identity": None},
    ],
)
def test_only_its_like_counts(tmp_path: Path, other: dict) -> None:
    runs_of(tmp_path, "scratch", [0.2, 0.2, 0.2])
    here = runs_of(tmp_path, "finetune", [0.10, 0.12, 0.08])
    expected = so_far(here, tmp_path)
    assert "over 3 pairs" in expected[0].text
    for mode in ("scratch", "finetune"):
        # The source of a scratch run gives its shape and nothing else, so that alone makes it no other run.
        mae = 0.2 if mode == "scratch" and ("source" in other or "mode" in other.get("settings", {})) else 0.9
        runs_of(tmp_path / mode, mode, [mae, mae, mae], **other)
    assert so_far(here, tmp_path) == expected


def test_a_repeated_run_counts_once_and_seeds_of_estimators_do_not_matter(tmp_path: Path) -> None:
    runs_of(tmp_path, "scratch", [0.2, 0.2, 0.2])
    forest = {"mode": {"regressor": {"random_state": 0}}}
    other = {"mode": {"regressor": {"random_state": 1}}}
    a = make_run(tmp_path / "e", "features", 0, 0.1, settings=SETTINGS | forest)
    make_run(tmp_path / "f", "features", 1, 0.1, settings=SETTINGS | other)
    assert "over 2 pairs" in so_far(a, tmp_path)[0].text


def test_two_quantities_get_two_named_verdicts_and_another_run_none(tmp_path: Path) -> None:
    def both(mae: float) -> dict:
        units = {"e_form": "eV/atom", "gap": "eV"}
        return {"quantities": {q: {"unit": u, "test": {"n": 4, "MAE": mae}} for q, u in units.items()}}

    for seed, mae in enumerate([0.10, 0.12, 0.08]):
        make_run(tmp_path / f"s{seed}", "scratch", seed, **both(0.2))
        here = make_run(tmp_path / f"f{seed}", "finetune", seed, **both(mae))
        gap = {"gap": {"unit": "eV", "test": {"n": 4, "MAE": 9.0}}}
        alone = make_run(tmp_path / f"g{seed}", "finetune", seed, quantities=gap)
    first, second = texts(here, tmp_path)
    assert first.startswith("e_form: positive transfer over 3 pairs so far.")
    assert "0.100 eV/atom lower" in first
    assert second.startswith("gap: positive transfer over 3 pairs so far.")
    assert "0.100 eV lower" in second
    told = texts(alone, tmp_path)
    assert all(text.startswith("gap: ") for text in told)
    assert "One learns gap, the other e_form and gap." in told[1]


def test_a_sweep_that_makes_its_own_baseline_is_not_told_to(tmp_path: Path) -> None:
    words = "tltool transfer -m mode=scratch,finetune seed=0,1,2 target=bulk_modulus"
    here = make_run(tmp_path / "now", size=BIG, state="running", command=words)
    make_run(tmp_path / "s", "scratch", seed=7, size=BIG)
    assert len(texts(here, tmp_path)) == 1
