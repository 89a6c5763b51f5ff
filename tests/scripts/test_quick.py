"""Which tests make quick runs: of what changed, the nearest first."""

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from support import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import quick


@pytest.fixture(scope="module", autouse=True)
def _read_once() -> Iterator[None]:
    """Look through the text of a test once for all tests here: for all of them it takes a second."""
    whole = quick.imported
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "imported", cache(lambda text: frozenset(whole(text))))
        yield


@pytest.mark.parametrize(
    ("file", "first", "among"),
    [
        ("tltool/data/splits.py", "tests/data/test_splits.py", "tests/data/test_splits.py"),
        ("tltool/model/scaler.py", "tests/model/test_scaler.py", "tests/model/test_scaler_limits.py"),
        ("tests/data/test_store.py", "tests/data/test_store.py", "tests/data/test_store.py"),
        ("tests/scripted_server.py", None, "tests/data/download/test_fetch.py"),
        ("scripts/quick.py", "tests/scripts/test_quick.py", "tests/scripts/test_quick.py"),
        ("configs/mode/lora.yaml", None, "tests/test_configs.py"),
        ("docs/modes.md", "tests/test_readme.py", "tests/test_readme.py"),
        ("tltool/data/record.py", None, "tests/data/test_splits.py"),
    ],
)
def test_a_file_has_the_tests_of_its_path_and_of_its_importers(file: str, first: str | None, among: str) -> None:
    found = quick.nearest_tests([file])
    assert among in found
    assert first is None or found[0] == first
    assert len(found) == len(set(found))
    assert all((ROOT / test).is_file() for test in found)


def test_a_file_without_tests_has_none() -> None:
    assert quick.nearest_tests(["LICENSE", "tltool/nowhere.py"]) == []
    assert quick.nearest_tests(["tltool/data/splits.py", "tests/data/test_store.py"])[0] == "tests/data/test_store.py"


def test_imports_are_seen_in_every_form() -> None:
    text = "import a.b\nfrom c.d import e, f as g\ndef h():\n    from i import j\nfrom . import k\n"
    assert set(quick.imported(text)) == {"a.b", "c.d", "c.d.e", "c.d.f", "i", "i.j"}


def test_what_changed_is_committed_or_not_or_new(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *own, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "main")
    for name in ("kept", "committed", "edited", "gone", "ignored"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.log\n")
    git("add", ".")
    git("commit", "-m", "one")
    assert quick.changed(tmp_path, "main") == []
    (tmp_path / "edited").write_text("other")
    assert quick.changed(tmp_path, "main") == ["edited"], "on main itself, what is not committed"
    git("switch", "-c", "work")
    (tmp_path / "committed").write_text("other")
    git("commit", "-m", "two", "committed")
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_text("new")
    (tmp_path / "new.log").write_text("new")
    assert quick.changed(tmp_path, "main") == ["committed", "edited", "new"]
    assert quick.changed(tmp_path, "no such branch") == ["edited", "new"]
