import pytest
from run_folders import make_three_seeds

from tltool import plots


@pytest.fixture
def three_seeds(tmp_path):
    return make_three_seeds(tmp_path / "runs")


def drawn(files, *_, **__):
    files.png.write(b"\x89PNG")
    files.svg.write(b"<svg></svg>")


@pytest.fixture
def quick(monkeypatch):
    """Draw no periodic table: half the time of a report."""
    monkeypatch.setattr(plots, "periodic_table", drawn)


@pytest.fixture
def bare(monkeypatch):
    """Draw no picture, which is nearly all the time of a report."""
    for name in ("summary", "parity", "periodic_table", "learning_curves", "sizes"):
        monkeypatch.setattr(plots, name, drawn)
