"""``tltool STAGE --help``: one screen from the comments of the YAML files, and what a name in it means."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import run

from tltool.command_line import config_files
from tltool.command_line.config_files import parsed
from tltool.command_line.stage_help import stage_help
from tltool.command_line.usage import STAGES
from tltool.errors import ConfigError

TREE = config_files.roots()
OWN = ("encoder", "fit", "head", "mode", "optimiser", "overlap", "readout", "split", "trunk")
GROUPS = [(group, name) for group in OWN for name in config_files.names(group, TREE)]


@pytest.mark.parametrize("columns", ["80", "100", "200"])
@pytest.mark.parametrize("stage", STAGES)
def test_help_of_a_stage_is_one_screen(stage: str, columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = stage_help(stage, []).splitlines()
    assert len(lines) <= 60
    assert all(len(line) <= min(100, int(columns)) for line in lines if "tltool" not in line)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_and_choice_of_a_stage_is_described(stage: str) -> None:
    for name in (stage, "common"):
        file = config_files.read("", name, TREE)
        assert file is not None
        described = {key.name: key.about for key in file.keys} | {d.place: d.about for d in file.defaults if d.group}
        bare = [key for key, about in described.items() if not about]
        assert [key for key in bare if key.partition(".")[0] not in ("hydra", "stage")] == [], f"configs/{name}.yaml"


@pytest.mark.parametrize(("group", "name"), GROUPS)
def test_every_key_of_a_file_is_described(group: str, name: str) -> None:
    file = config_files.merged(group, name, TREE)
    assert file is not None
    assert file.summary, f"configs/{group}/{name}.yaml begins with no comment"
    kept = [key for key in file.keys if "_target_" not in key.name and key.name.count(".") == 0]
    assert [key.name for key in kept if not key.about] == [], f"configs/{group}/{name}.yaml"


@pytest.mark.parametrize("group", [g for g in config_files.groups(TREE) if not g.startswith("hydra")])
def test_every_file_begins_with_what_it_is(group: str) -> None:
    for name in config_files.names(group, TREE):
        file = config_files.read(group, name, TREE)
        assert file is not None
        assert len(file.summary) > 10, f"configs/{group}/{name}.yaml begins with no comment"


def test_a_group_shows_its_names_and_the_keys_of_the_one_taken() -> None:
    text = stage_help("transfer", ["--help", "fit"])
    assert "  pretrain  Pretraining on thousands of crystals and more." in text
    assert "fit.loss             huber     l1, mse or huber, on scaled labels" in text, "comment of the file below"
    text = stage_help("transfer", ["mode=freeze", "--help"])
    assert "  finetune  Full fine-tune: the source's weights, everything trains." in text
    assert "mode.parts             [encoder]" in text
    assert "mode.l2_sp" not in text
    assert "mode/regressor=NAME" in stage_help("transfer", ["--help", "mode/regressor"])
    assert "target.data.adapter.table" in stage_help("transfer", ["--help", "target=folder"])
    names = stage_help("transfer", ["--help", "target"]).splitlines()
    assert {"bulk_modulus", "dielectric"} <= {line.split()[0] for line in names if line.startswith("  ")}
    assert max(map(len, names)) <= 100


def test_a_key_shows_its_line() -> None:
    assert stage_help("transfer", ["--help", "fit.epochs"]).split(maxsplit=2)[:2] == ["fit.epochs", "100"]
    assert "limits.flattest" in stage_help("eval", ["--help", "limits"])


@pytest.mark.parametrize(
    ("word", "says"),
    [("lr", "'optimiser.lr'"), ("epoch", "'fit.epoch"), ("fitt", "'fit'"), ("mode=frezee", "'freeze'")],
)
def test_a_name_that_is_not_there_brings_the_nearest(word: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"Did you mean {says}"):
        stage_help("transfer", ["--help", word])
    assert run(tmp_path, "transfer", "--help", word, code=2).stderr.count("\n") == 1


def test_files_of_a_folder_of_ones_own_are_shown(tmp_path: Path) -> None:
    (tmp_path / "mode").mkdir()
    (tmp_path / "mode" / "mine.yaml").write_text("# What I do.\n_target_: x.y\nhow: 3   # times\n")
    text = stage_help("transfer", ["--config-dir", str(tmp_path), "--help", "mode=mine"])
    assert "  mine      What I do." in text
    assert "mode.how  3  times" in text


def test_help_imports_neither_torch_nor_hydra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['tltool', 'transfer', '--help']\nfrom tltool.cli import main\n"
        "try:\n main()\nexcept SystemExit as e:\n print(e.code, {'torch', 'hydra', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "0 set()"


def test_a_comment_belongs_to_the_key_beside_it() -> None:
    file = parsed(
        "# What it is,\n# in two lines.\n#   tltool transfer x=1\n# Source: Me,\n#   and you. More.\n"
        "a: '# no'     # first\nb:            # of b\n  c: [1,\n    2]        # second,\n              # and more\n"
        "  # of the next one\n  d: ''\n"
    )
    assert file.summary == "What it is, in two lines."
    assert file.commands == ["tltool transfer x=1"]
    assert file.note("Source") == "Me, and you. More."
    found = {key.name: key.about for key in file.keys}
    assert found == {"a": "first", "b": "of b", "b.c": "second, and more", "b.d": ""}
