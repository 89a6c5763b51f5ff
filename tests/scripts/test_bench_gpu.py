"""The GPU script checks what a CPU can check, without DGL and whatever else a bare machine lacks."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import bench_gpu

from tltool.training import cuda_graphs

pytestmark = pytest.mark.slow

LACKING = ("dgl", "pymatgen", "hydra", "omegaconf", "gemmi", "ase", "moyopy", "skops", "triton")
BARE = f"""
import sys
sys.modules.update(dict.fromkeys({LACKING}))
sys.path.insert(0, {str(Path(bench_gpu.__file__).parent)!r})
import bench_gpu
sys.exit(bench_gpu.main(["--check", "--graphs", sys.argv[1]]))
"""


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says without a GPU")
def test_checks_hold_on_a_bare_machine_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tables = tmp_path / "graphs.npz", bench_gpu.tables
    monkeypatch.setattr(bench_gpu, "tables", lambda count, encoders: tables(count // 3, encoders))
    assert bench_gpu.main(["--check", "--save", str(file)]) == 0
    done = subprocess.run([sys.executable, "-W", "error", "-c", BARE, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" yes: ") == 6
    assert "nothing was timed" in done.stdout


def test_a_check_that_fails_is_said_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    made, labels = bench_gpu.tables(40, ["cgcnn"])

    def worse(step: cuda_graphs.Step, parameters: object, say: object) -> cuda_graphs.Step:
        return lambda: 2 * step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_gpu, "as_it_is", worse)
        assert not bench_gpu.checks(made, labels, torch.device("cpu"))
    printed = capsys.readouterr().out
    assert "cgcnn: padded equals plain         NO: losses" in printed
    assert "cgcnn: nothing in an epoch waits   yes" in printed


def test_bytes_are_what_operations_read_and_write() -> None:
    a, b = torch.ones(10), torch.ones(1000, 2)
    index = torch.arange(3)
    with bench_gpu.Counter() as count:
        a + a
        assert count.bytes == 2 * 40
        a.mul_(2)
        assert count.bytes == 2 * 40 + 2 * 40
        b.index_select(0, index)
        b.view(-1)
    assert count.bytes == 2 * 40 + 2 * 40 + 2 * 3 * 8
    assert count.operations == 3


def test_a_step_moves_something() -> None:
    made, labels = bench_gpu.tables(24, ["cgcnn"])
    data = bench_gpu.data_of(made["cgcnn"], labels, 48, torch.device("cpu"))
    moved, operations = bench_gpu.bytes_of_step(bench_gpu.Line("cgcnn", 24, "torch", False, True), data)
    assert moved > 1e6
    assert 100 < operations < 1000


def test_the_table_has_a_line_for_each_way_to_train(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, labels = bench_gpu.tables(24, ["cgcnn"])
    lines = [bench_gpu.Line("cgcnn", 256, name, False, True) for name in ("torch", "no such kernels")]
    monkeypatch.setattr(bench_gpu, "LINES", lines)
    monkeypatch.setattr(bench_gpu, "ROWS", {"cgcnn": 300})
    monkeypatch.setattr(bench_gpu, "bandwidth", lambda device: 1e12)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a stand-in")
    monkeypatch.setattr(bench_gpu, "published", lambda size, device: 1000.0 + size)
    kept: list[dict] = []
    bench_gpu.timed(made, labels, torch.device("cpu"), until=float("inf"), keep=kept.append)
    (row,) = kept[-1]["rows"]
    assert row["structures_per_s"] == pytest.approx(300 / (2 * row["s_per_step"]))
    assert row["bytes"] > 1e6
    printed = capsys.readouterr().out
    assert "150,000" in printed
    assert "failed: ['kernels=no such kernels is not known" in printed
    assert kept[-1]["published_256"] == 1256.0
    assert "batch 64: 1,064 structures/s" in printed


def test_the_published_method_trains() -> None:
    assert bench_gpu.published(8, torch.device("cpu"), crystals=16, epochs=1) > 0
