"""The bench runs from end to end and reports every comparison; how fast is never tested."""

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench

pytestmark = pytest.mark.slow

NAMES = {
    "graphs, shared shells",
    "graphs, strict",
    "assembly, batch 32",
    "training, batch 32",
    "peak memory, batch 32",
    "test MAE, batch 32",
    "prediction",
}


def test_quick_run_reports_every_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = bench.LAST.read_bytes() if bench.LAST.is_file() else None
    bench.main(["--quick", "--json", str(tmp_path / "bench.json")])
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert set(report) == {"settings", "machine", "seconds", "cores_taken_by_others", "sizes", "rows", "ratios"}
    assert set(report["ratios"]) == NAMES
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in report["ratios"].values())
    assert 0 < report["sizes"]["ours"]["nodes"] <= report["sizes"]["published"]["nodes"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in NAMES)
    assert (bench.LAST.read_bytes() if bench.LAST.is_file() else None) == before, "only --save may keep ratios"


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(SystemExit):
        bench.parsed(["--quick", "--save"])
    with pytest.raises(SystemExit):
        bench.parsed(["--batch", "256", "64"])


def test_last_ratios_are_compared_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [bench.Row("prediction", "structures/s", 100.0, 400.0, 4.0), bench.Row("new", "MB", 8.0, 2.0, 4.0)]
    bench.show(rows, {"prediction": 5.0}, "title")
    printed = capsys.readouterr().out.splitlines()
    known, new = (line.split() for line in printed if "4.00" in line and "WORSE" not in line)
    assert known[-3:] == ["4.00", "5.00", "0.80"]
    assert new[-3:] == ["4.00", "-", "-"]


def test_what_became_slower_is_named() -> None:
    rows = [bench.Row(name, "structures/s", 1.0, ratio, ratio) for name, ratio in (("a", 4.0), ("b", 4.6), ("c", 1.0))]
    assert bench.verdict(rows, {"a": 5.0, "b": 5.0}) == "WORSE: a: ratio 4.00, last 5.00 (-20%)"
    assert bench.verdict(rows, {"a": 4.0}) == "Of 1 ratios that were kept none has fallen by more than 10%."
