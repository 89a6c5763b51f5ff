"""Two commits side by side: made-up ones whose seconds are known."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import compare_commits
from compare_commits import Command

CLI = """
import json, os, sys

def main():
    words = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
    assert words["threads"] == "1"
    if sys.argv[1] == "fails":
        sys.exit("the reason")
    folder = f"{words['runs']}/{sys.argv[1]}/run{len(os.listdir('.'))}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/log.jsonl", "w") as log:
        for epoch in range(int(words["fit.epochs"])):
            seconds = SECONDS if epoch else 100.0
            log.write(json.dumps({"event": "epoch", "seconds": seconds}) + "\\n")
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, ``old`` and ``new``, whose epochs take 0.5 and 0.6 s after a first one of 100 s."""
    home = tmp_path / "repository"
    (home / "tltool").mkdir(parents=True)

    def git(*words: str) -> None:
        named = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *named, *words], cwd=home, check=True, capture_output=True)

    git("init")
    (home / "tltool" / "__init__.py").touch()
    for tag, seconds in (("old", "0.5"), ("new", "0.6")):
        (home / "tltool" / "cli.py").write_text(CLI.replace("SECONDS", seconds), encoding="utf-8")
        git("add", ".")
        git("commit", "-m", tag)
        git("tag", tag)
    return home


def test_the_ratio_is_that_of_the_epochs_after_the_first(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = Command("an epoch", ["pretrain", "fit.epochs={epochs}"], epochs=True)
    compare_commits.main(["old", "new", "--rounds", "1", "--epochs", "3"], [training], repository)
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[2:4] == ["old", "new"]
    assert row.split()[-5:] == ["0.500", "0.600", "1.200", "1.200", "1.200"]


def test_a_command_that_fails_ends_with_its_message(repository: Path) -> None:
    with pytest.raises(SystemExit, match=r"old: tltool fails .* ended with 1:\nthe reason"):
        compare_commits.main(["old", "old", "--rounds", "1"], [Command("x", ["fails"])], repository)


def test_a_commit_that_is_not_there_is_named(repository: Path) -> None:
    with pytest.raises(SystemExit, match=r"^older is no commit of .*; name one that git log shows\."):
        compare_commits.main(["older"], [], repository)
