import math

import pytest
from run_folders import make_run

from tltool.reporting.finished_runs import collect
from tltool.reporting.statistics import by_element, mean_curve, summarise


def test_summary_by_hand(three_seeds):
    scratch, finetune = summarise(collect([three_seeds]).results)
    assert (scratch.mode, finetune.mode) == ("scratch", "finetune")
    assert finetune.place[:5] == ("transfer", "bulk_modulus", "elastic", "log10_K_VRH", 100)
    assert (len(finetune.runs), finetune.unit, finetune.plain_unit) == (3, "log10(GPa)", "GPa")
    # 0.10, 0.12, 0.14: mean 0.12, sample standard deviation 0.02.
    assert tuple(finetune.error) == pytest.approx((3, 0.12, 0.02))
    assert finetune.plain_MAE == pytest.approx((3, 12.0, 2.0))
    assert finetune.errors["MAE/MAD"] == pytest.approx((3, 0.48, 0.08))
    assert tuple(finetune.errors["RMSE"]) == pytest.approx((3, 0.18, 0.03))
    assert tuple(finetune.errors["R2"]) == pytest.approx((3, 0.9, 0.0))
    assert finetune.trainable_parameters.mean == 12345
    assert finetune.seconds.mean == pytest.approx(4.2)
    assert (scratch.best, finetune.best) == (False, True)
    # Differences -0.10, -0.12, -0.08: mean -0.10, sd 0.02; t(0.975, 2) = 4.302653.
    half = 4.302653 * 0.02 / math.sqrt(3)
    assert finetune.paired[:4] == pytest.approx((3, -0.10, -0.10 - half, -0.10 + half))
    assert finetune.paired.verdict == "positive transfer"
    # t = 0.10 / (0.02 / sqrt 3) = 8.66 with 2 degrees of freedom; of the 8 choices of signs, 2 are as far from zero.
    assert finetune.paired.p == pytest.approx(0.01307, rel=1e-3)
    assert finetune.paired.p_signs == pytest.approx(0.25)
    assert scratch.paired is None


@pytest.mark.parametrize(
    ("maes", "verdict"),
    [
        ([0.30, 0.35, 0.31], "negative transfer"),
        ([0.10, 0.30, 0.20], "neutral"),
        ([0.20, 0.20, 0.20], "neutral"),
        ([0.10], "not known"),
        ([], "not known"),
    ],
)
def test_verdicts(tmp_path, maes, verdict):
    for seed in range(3):
        make_run(tmp_path / f"s{seed}", "scratch", seed, 0.2)
    for seed, mae in enumerate(maes):
        make_run(tmp_path / f"f{seed}", "freeze", seed, mae)
    make_run(tmp_path / "other", "freeze", 7, 0.001)  # no scratch run has this seed: no pair
    freeze = summarise(collect([tmp_path]).results)[1]
    assert freeze.paired.verdict == verdict
    assert freeze.paired.n == len(maes)
    assert len(freeze.runs) == len(maes) + 1


@pytest.mark.parametrize("n", [5, 30])
def test_chance_alone_is_not_called_transfer(tmp_path, n):
    import numpy as np

    noise = np.random.default_rng(1).normal(0, 0.01, n)
    for seed in range(n):
        make_run(tmp_path / f"s{seed}", "scratch", seed, 0.2)
        make_run(tmp_path / f"f{seed}", "finetune", seed, 0.2 + noise[seed] - noise.mean())
    paired = summarise(collect([tmp_path]).results)[1].paired
    assert paired.p == pytest.approx(1.0)
    assert paired.p_signs == pytest.approx(1.0, abs=1e-3)
    for seed in range(n):
        make_run(tmp_path / f"b{seed}", "freeze", seed, 0.1 + noise[seed])
    paired = summarise(collect([tmp_path]).results)[2].paired
    assert paired.p < 0.001
    assert paired.p_signs == pytest.approx(max(2 ** (1 - n), 1 / 20_001))


def test_pairs_need_the_same_split_and_size(tmp_path):
    for seed in range(3):
        make_run(tmp_path / f"s{seed}", "scratch", seed, 0.2, split_seed=0)
        make_run(tmp_path / f"t{seed}", "scratch", seed, 0.2, size=50, split_seed=1)
        make_run(tmp_path / f"f{seed}", "finetune", seed, 0.1, split_seed=1)
    rows = summarise(collect([tmp_path]).results)
    assert [(row.place.train_size, row.mode) for row in rows] == [(50, "scratch"), (100, "scratch"), (100, "finetune")]
    assert rows[2].paired.n == 0
    assert rows[2].paired.verdict == "not known"


def test_folds_of_one_seed_are_pairs(tmp_path):
    for fold in range(5):
        make_run(tmp_path / f"s{fold}", "scratch", 0, 0.2 + fold / 100, fold=fold)
        make_run(tmp_path / f"f{fold}", "finetune", 0, 0.1 + fold / 100, fold=fold)
    finetune = summarise(collect([tmp_path]).results)[1]
    assert finetune.paired.n == 5
    assert finetune.paired.mean == pytest.approx(-0.1)
    assert len(finetune.of_cells) == 5


def test_a_repeated_run_is_one_pair(tmp_path):
    make_run(tmp_path / "s", "scratch", 0, 0.2)
    for name, mae in (("a", 0.1), ("b", 0.2)):
        make_run(tmp_path / name, "finetune", 0, mae)
    finetune = summarise(collect([tmp_path]).results)[1]
    assert len(finetune.runs) == 2
    assert finetune.paired.n == 1
    assert finetune.paired.mean == pytest.approx(-0.05)


def test_missing_and_non_finite_metrics_are_counted_not_averaged(tmp_path):
    unit = "log10(GPa)"
    for i, test in enumerate([{"MAE": math.nan}, {"MAE": None, "n": 0}, {}, None, {"MAE": 0.3}]):
        make_run(tmp_path / str(i), "scratch", i, quantities={"log10_K_VRH": {"unit": unit, "test": test}})
    make_run(tmp_path / "sizeless", "scratch", 9, train_size=None, trainable_parameters=None, seconds="soon")
    results = collect([tmp_path]).results
    known, sizeless = summarise(results)
    assert len(known.runs) == 5
    assert known.error.n == 1
    assert known.error.mean == pytest.approx(0.3)
    assert math.isnan(known.error.sd)
    assert not known.best
    assert sizeless.trainable_parameters.n == 0


def test_quantities_and_data_are_not_mixed(tmp_path):
    gap = {"gap": {"unit": "eV", "test": {"n": 2, "MAE": 0.5}}}
    make_run(tmp_path / "a", "scratch", 0, 0.2)
    make_run(tmp_path / "b", "scratch", 1, 0.4, data="other")
    make_run(tmp_path / "c", "scratch", 0, quantities=gap, target="gap")
    rows = summarise(collect([tmp_path]).results)
    assert [(row.place.data, row.place.quantity, row.error.mean) for row in rows] == [
        ("elastic", "log10_K_VRH", 0.2),
        ("other", "log10_K_VRH", 0.4),
        ("elastic", "gap", 0.5),
    ]
    assert rows[2].plain_MAE is None


def test_error_by_element_counts_crystals_not_predictions():
    import pandas as pd

    rows = pd.DataFrame(
        {"id": ["a", "a", "b"], "error": [0.1, 0.3, 0.5], "elements": ["O Ti", "O Ti", "O"]},
    )
    found = by_element(rows)
    assert found["Ti"] == pytest.approx((0.2, 1))
    assert found["O"] == pytest.approx((0.35, 2))


def test_curves_end_where_all_runs_have_points():
    curves = [{1: 1.0, 2: 2.0, 3: 9.0, 4: math.nan}, {1: 3.0, 2: 4.0, 4: 1.0}, {}]
    assert mean_curve(curves) == [(1, 2.0), (2, 3.0)]
    assert mean_curve([{}]) == []
