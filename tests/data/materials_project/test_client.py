"""Without the extra: one sentence, and a folder that was fetched is read all the same."""

import sys
from pathlib import Path

import pytest
from mp_rows import freeze, rows
from support import QUOTIENT, config

from tltool.data import dataset
from tltool.data.materials_project import client
from tltool.errors import ConfigError


@pytest.fixture(autouse=True)
def without_mp_api(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mp_api", "mp_api.client.routes.materials.summary"):
        monkeypatch.setitem(sys.modules, name, None)


def test_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"needs mp-api; install it with: pip install 'tltool\[mp\]', or pass data\."):
        client.checked({})


def test_a_fetched_folder_needs_neither_client_nor_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MP_API_KEY", raising=False)
    folder = freeze(tmp_path / "mp", rows())
    description = config("pretrain", "data=mp", f"data.root={folder}")["data"]
    made = dataset.opened(description, QUOTIENT, dataset.Means(tmp_path / "cache", [], 1, lambda _: None))
    assert len(made.store) == 20
