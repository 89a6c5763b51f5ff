import blank_pictures
import pytest
from run_folders import make_three_seeds

from tltool import plots


@pytest.fixture
def three_seeds(tmp_path):
    return make_three_seeds(tmp_path / "runs")


@pytest.fixture
def quick(monkeypatch):
    """Draw no periodic table: half the time of a report."""
    monkeypatch.setattr(plots, "periodic_table", blank_pictures.draw)


@pytest.fixture
def bare():
    """Draw no picture, which is nearly all the time of a report."""
    with blank_pictures.blank():
        yield
