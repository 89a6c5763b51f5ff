"""Fault 9 of the list in docs/reliability.md, in small; ``make soak`` fills the disk at every write and every size."""

import sys
from pathlib import Path

import pytest
from support import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import full_disk


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("name", "step"), [("pretrain", 11), ("transfer", 11), ("prepare", 3)])
def test_09_whichever_write_finds_no_space_the_rest_is_as_with_space(
    name: str, step: int, tmp_path: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLTOOL_OFFLINE", "1")
    cache_folder.mkdir(exist_ok=True)
    (tmp_path / "cache").symlink_to(cache_folder)
    (command,) = [command for command in full_disk.commands() if command.name == name]
    whole = full_disk._home(tmp_path / "whole")
    assert full_disk.run(command.words, whole)[0] == 0
    number, faults = full_disk.at_every_write(command, tmp_path, step, command.result(whole))
    assert faults == []
    assert number > 2 * step, "no write was among those that found no space"
