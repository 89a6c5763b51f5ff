"""The comparison of bundled sources with scratch pairs draws and crystals as it says."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_bundled


def made(runs: Path, mode: str, draw: int, errors: dict[str, float], seen: str = "") -> None:
    """Write a finished run: a label of 1 for each crystal, predicted with these errors."""
    folder = runs / "bulk_modulus" / f"{mode}-{draw}"
    folder.mkdir(parents=True)
    metrics = {"stage": "transfer", "mode": mode, "draw": draw, "quantities": {"log10_K_VRH": {"unit": "log10(GPa)"}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    lines = ["id,split,quantity,label,prediction,seen", "t,train,log10_K_VRH,1,9,"]
    for name, error in errors.items():
        how = "id" if name == seen and mode == "auto" else ""
        lines += [f"{name},test,log10_K_VRH,1,{1 + error},{how}", f"{name},test,K_VRH,10,99,{how}"]
    (folder / "predictions.csv").write_text("\n".join(lines) + "\n")


def test_pairs_of_draws_and_unseen_crystals(tmp_path: Path) -> None:
    for draw in range(3):
        made(tmp_path, "scratch", draw, {"1": 0.4, "2": 0.2})
        made(tmp_path, "auto", draw, {"1": -0.1 - draw / 100, "2": 0.2 + (draw - 1) / 50}, seen="1")
    made(tmp_path, "auto", 7, {"1": 5, "2": 5}, seen="1")  # no pair
    scratch, auto = (bench_bundled.tested(tmp_path, mode) for mode in ("scratch", "auto"))
    every, unseen = (bench_bundled.compared(scratch, auto, unseen=only) for only in (False, True))
    assert every is not None
    assert unseen is not None
    assert (every.n, every.crystals, every.verdict) == (3, 2, "better")
    assert (every.scratch, every.auto) == pytest.approx((0.3, 0.155))
    # Differences -0.16, -0.145, -0.13; Student's t of two degrees of freedom is 4.3027.
    assert (every.low, every.high) == pytest.approx(
        (-0.145 - 4.3027 * 0.015 / 3**0.5, -0.145 + 4.3027 * 0.015 / 3**0.5), rel=1e-4
    )
    assert (unseen.n, unseen.crystals, unseen.verdict) == (3, 1, "ties")
    lines = bench_bundled.table(["bulk_modulus"], tmp_path)
    assert "| bulk_modulus | log10(GPa) | all 2 | 3 | 0.3 | 0.155 | -0.182 to -0.108 | better |" in lines
    assert len(lines) == 4


def test_one_draw_is_no_verdict(tmp_path: Path) -> None:
    made(tmp_path, "scratch", 0, {"1": 0.1})
    made(tmp_path, "auto", 0, {"1": 0.3}, seen="1")
    scratch, auto = (bench_bundled.tested(tmp_path, mode) for mode in ("scratch", "auto"))
    every = bench_bundled.compared(scratch, auto, unseen=False)
    assert every is not None
    assert every.verdict == "not known"
    assert bench_bundled.compared(scratch, auto, unseen=True) is None


def test_worse_is_said(tmp_path: Path) -> None:
    for draw in range(2):
        made(tmp_path, "scratch", draw, {"1": 0.1})
        made(tmp_path, "auto", draw, {"1": 0.3 + draw / 100})
    pair = [bench_bundled.tested(tmp_path, mode) for mode in ("scratch", "auto")]
    found = bench_bundled.compared(*pair, unseen=True)
    assert found is not None
    assert found.verdict == "worse"


def test_runs_that_are_there_are_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("scratch", "auto"):
        made(tmp_path / "bundled-cgcnn" / "bulk_modulus", mode, 0, {"1": 0.1})
    words = ["--source", "bundled/cgcnn", "--targets", "bulk_modulus", "--draws", "1", "--runs", str(tmp_path)]
    bench_bundled.main(words)
    assert "| bulk_modulus | log10(GPa) | all 1 | 1 |" in capsys.readouterr().out
