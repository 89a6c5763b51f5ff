import pytest
from run_folders import make_run

from tltool import plots


@pytest.fixture
def three_seeds(tmp_path):
    for seed, (scratch, finetune) in enumerate([(0.20, 0.10), (0.24, 0.12), (0.22, 0.14)]):
        make_run(tmp_path / "runs" / f"s{seed}", "scratch", seed, scratch)
        make_run(tmp_path / "runs" / f"f{seed}", "finetune", seed, finetune)
    return tmp_path / "runs"


@pytest.fixture
def quick(monkeypatch):
    """Draw no periodic table: half the time of a report."""

    def drawn(files, *_, **__):
        files.png.write(b"\x89PNG")
        files.svg.write(b"<svg></svg>")

    monkeypatch.setattr(plots, "periodic_table", drawn)
