"""Times by rates: they grow with the work, and a pretraining that was done says more than a rate."""

import pytest
from support import config

from tltool.study import rates
from tltool.study.rates import Past

SET = {"_target_": "tltool.transfer.features.features", "regressor": {"_target_": "sklearn.linear_model.RidgeCV"}}
TUNE = {"_target_": "tltool.transfer.finetune.finetune"}


@pytest.fixture(autouse=True)
def _this_machine_is_half_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "speed", lambda: 2.0)


def test_a_pretraining_takes_the_time_of_its_work_on_this_machine() -> None:
    rate = rates._RATES["CGCNN"].pretraining / 1000
    assert rates.of_pretraining(40_000, "CGCNN", []) == pytest.approx(rates.START + 2 * 40_000 * rate)
    assert rates.of_pretraining(40_000, "MyOwn", []) is None


def test_the_pretraining_nearest_in_work_is_better_than_a_rate() -> None:
    past = [Past(1_000, rates.START + 5), Past(100_000, rates.START + 200)]
    assert rates.of_pretraining(80_000, "MyOwn", past) == pytest.approx(rates.START + 160)
    assert rates.of_pretraining(2_000, "CGCNN", past) == pytest.approx(rates.START + 10)
    assert rates.of_pretraining(10, "CGCNN", [Past(20, 1.0)]) == rates.START


def test_a_cell_takes_time_by_mode_rows_epochs_and_encoder() -> None:
    small, more_rows = (rates.of_cell(n, TUNE, 100, "CGCNN") for n in (50, 500))
    assert small < more_rows
    assert rates.of_cell(50, TUNE, 200, "CGCNN") == pytest.approx(2 * small - 0.5)
    assert rates.of_cell(50, TUNE, 100, "MEGNet") > small
    assert rates.of_cell(50, SET, 100, "CGCNN") == rates.of_cell(50, SET, 999, "ALIGNN") < small
    assert rates.of_cell(50, {"_target_": "tltool.transfer.auto.auto"}, 1, "CGCNN") > 8


def test_the_encoder_of_a_config_and_of_a_saved_model() -> None:
    assert rates.encoder({"_target_": "tltool.model.encoders.cgcnn.CGCNN", "dim": 64}) == "CGCNN"
    assert rates.encoder({"part": "MEGNet"}) == "MEGNet"
    assert rates.encoder({}) == ""


def test_alignn_has_a_rate_of_its_small_sizes_alone() -> None:
    small, full = (
        rates.encoder(config("pretrain", f"encoder={name}")["encoder"]) for name in ("alignn_small", "alignn")
    )
    assert small == "ALIGNN of 2 + 2 blocks of 64"
    assert rates.of_pretraining(1_000, small, []) == pytest.approx(rates.START + 2 * 5.5)
    assert rates.of_pretraining(1_000, full, []) is None
    assert (
        rates.of_cell(50, TUNE, 100, full)
        == rates.of_cell(50, TUNE, 100, small)
        > rates.of_cell(50, TUNE, 100, "MEGNet")
    )


def test_the_speed_of_this_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 0.02 < rates.speed() < 200
