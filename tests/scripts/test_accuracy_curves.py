"""The curves of error against rows: which runs count, the table, and the figure."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import accuracy_curves


def made(runs: Path, series: str, size: int, draw: int, error: float) -> None:
    """Write a finished run."""
    folder = runs / "gaps_hse" / series / f"{size}-{draw}"
    folder.mkdir(parents=True)
    metrics = {"stage": "transfer", "train_size": size, "draw": draw, "quantities": {"n": {"test": {"MAE": error}}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_runs_become_a_table_and_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for draw in range(3):
        made(tmp_path, "scratch", 50, draw, 0.2 + draw / 100)
        made(tmp_path, "additive-own-sources", 50, draw, 0.1)
        made(tmp_path, "additive-own-sources", 100, draw, 0.08)
    found = accuracy_curves.curves(tmp_path, "gaps_hse")
    assert found["scratch"] == {50: pytest.approx([0.2, 0.21, 0.22])}
    assert list(found) == ["scratch", "additive, own sources"]
    accuracy_curves.main(["--runs", str(tmp_path), "--out", str(tmp_path / "a.svg")])
    told = capsys.readouterr().out
    assert "| HSE gap, eV | 50 | 3 | 0.21 ± 0.01 |  |  | 0.1 ± 0 |  |  |" in told
    assert "| HSE gap, eV | 100 | 3 |  |  |  | 0.08 ± 0 |  |  |" in told
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_only_missing_draws_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "auto", 50, 1, 0.1)
    started: list[list[str]] = []
    monkeypatch.setattr(accuracy_curves.subprocess, "run", lambda words, check: started.append(words))
    accuracy_curves.make("gaps_hse", "auto", [50, 100], 3, tmp_path, tmp_path, [])
    assert [[word for word in words if word.startswith("split.")][-2:] for words in started] == [
        ["split.train_size=50", "split.draw=0,2"],
        ["split.train_size=100", "split.draw=0,1,2"],
    ]
    assert all("source=bundled" in words and "mode=auto" in words for words in started)
