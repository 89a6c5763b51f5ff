"""The bench prints each row as it comes, ends when its time is up, and gives no figure that it did not measure."""

import json
import math
import multiprocessing
import os
import pickle
import re
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_parts
from bench import __main__ as whole
from bench import cgcnn, machine, rows, sides, tasks, timed, workers
from bench.rows import Row
from bench.timed import Part

pytestmark = pytest.mark.slow


def part(rows_of: timed.Rows, name: str = "cgcnn") -> Part:
    return Part(name, f"{name}, beside nothing", bench_parts.names, rows_of)


@pytest.fixture(autouse=True)
def last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the ratios of these tests are kept."""
    monkeypatch.setattr(rows, "LAST", tmp_path / "last.json")
    return tmp_path / "last.json"


def test_rows_come_with_the_processor_and_the_change(
    last: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last.write_text('{"ratios": {"first": 5.0, "other": 1.0}, "processor": "an abacus", "threads": [2]}')
    whole.main(["--parts", "cgcnn", "--json", str(tmp_path / "found.json"), "--save"], [part(bench_parts.both)])
    printed = capsys.readouterr().out
    assert printed.startswith(f"Measured on {machine.processor()}, with 1 thread a side; Python 3.")
    assert "The last ratios are of an abacus, with 2 threads a side." in printed
    assert re.search(r"^first +MB +8 +2 +4\.00 +5\.00 +0\.80$", printed, re.MULTILINE)
    assert re.search(r"^second +s +- +1\.50 +- +- +-$", printed, re.MULTILINE)
    assert "WORSE: first: ratio 4.00, last 5.00 (-20%)" in printed
    assert "Not measured" not in printed
    report = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in report["rows"]] == ["first", "second"]
    kept = json.loads(last.read_text(encoding="utf-8"))
    assert kept["ratios"] == {"first": 4.0, "other": 1.0}, "what was not measured now is not forgotten"
    assert (kept["processor"], kept["threads"]) == (machine.processor(), [1])


def test_a_row_that_is_not_measured_in_time_is_named_and_its_processes_end(
    last: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0])  # the begin, and while the first row is waited for; afterwards the time is up
    monkeypatch.setattr(timed, "time", Namespace(monotonic=lambda: next(clock, 1e9)))
    monkeypatch.setattr(whole, "time", timed.time)
    parts = [part(bench_parts.stuck), part(bench_parts.both, "startup")]
    whole.main(["--json", str(tmp_path / "pid"), "--budget", "120", "--save"], parts)
    printed = capsys.readouterr().out
    assert re.search(r"^first +MB", printed, re.MULTILINE)
    assert not re.search(r"^second +s", printed, re.MULTILINE)
    assert "Not measured, since the 120 s of --budget are over: second; first; second." in printed
    assert json.loads(last.read_text(encoding="utf-8"))["ratios"] == {"first": 4.0}


def test_what_a_part_started_ends_with_it(tmp_path: Path) -> None:
    found = timed.measured(part(bench_parts.stuck), Namespace(json=tmp_path / "pid"), time.monotonic() + 120)
    assert next(found) == bench_parts.FIRST
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    found.close()
    state = Path(f"/proc/{pid}/stat")
    until = time.monotonic() + 20
    while state.is_file() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until, "the process that the part started still runs"
        time.sleep(0.05)


def test_a_part_that_fails_ends_the_bench() -> None:
    found = timed.measured(part(bench_parts.broken), Namespace(), time.monotonic() + 120)
    assert next(found) == bench_parts.FIRST
    with pytest.raises(SystemExit, match=r"The part cgcnn of the bench ended with an error; see above\."):
        next(found)


def test_batches_ascend() -> None:
    with pytest.raises(SystemExit):
        whole.parsed(["--batch", "256", "64"])


def test_what_became_slower_is_named() -> None:
    some = [Row(name, "structures/s", 1.0, ratio, ratio) for name, ratio in (("a", 4.0), ("b", 4.6), ("c", 1.0))]
    assert rows.verdict(some, {"a": 5.0, "b": 5.0}) == "WORSE: a: ratio 4.00, last 5.00 (-20%)"
    assert rows.verdict(some, {"a": 4.0}) == "Of 1 ratios that were kept none has fallen by more than 10%."


def test_every_part_has_its_name_in_the_options() -> None:
    assert whole.parsed([]).parts == [one.name for one in whole.PARTS]
    assert whole.parsed([]).budget < 300
    assert whole.parsed([]).threads == [1]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # beside threads, from Python 3.12 on
def test_a_whole_part_gives_every_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Forks of this process, which has imported what both sides take. Those that start get the task as bytes.
    for module in (timed, workers):
        monkeypatch.setattr(module, "get_context", lambda how: multiprocessing.get_context("fork"))
    few = ["--crystals", "30", "--sample", "3", "--epochs", "1", "--rounds", "1", "--batch", "16"]
    whole.main(["--parts", "cgcnn", *few, "--json", str(tmp_path / "found.json")])
    options = whole.parsed(few)
    task = tasks.task_of(options.store, options.crystals, options.sample, options.seed)
    assert pickle.loads(pickle.dumps((sides.Published, sides.Ours, task)))[2].test == task.test
    names = cgcnn.names(options)
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{name} .* \d", printed, re.MULTILINE) for name in names)
    found = [Row(**row) for row in json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["rows"]]
    assert [row.name for row in found] == names
    for row in found:
        assert row.other is not None
        assert row.ratio is not None
        assert all(math.isfinite(number) and number > 0 for number in (row.other, row.ours, row.ratio))
        better = row.ours / row.other if row.unit == "structures/s" else row.other / row.ours
        assert row.ratio == pytest.approx(better)


def test_the_processor_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("vendor_id : X\nmodel name\t: Turing 1\nmodel name\t: Turing 1\n")
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    assert machine.processor() == "Turing 1, 2 cores"
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "none")
    assert re.fullmatch(r".+, 2 cores", machine.processor())
