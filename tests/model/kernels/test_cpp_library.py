import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import ROOT

from tltool.errors import ResourceError
from tltool.model.kernels import cpp_library, install

needs_a_compiler = pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler is here")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.cpp"
    path.write_text('extern "C" int answer() { return ANSWER; }\n')
    return path


def library(source: Path, said: list[str], answer: int = 42):
    return cpp_library.library(source, (f"ANSWER={answer}",), source.parent / "kept", said.append)


@needs_a_compiler
def test_a_library_is_compiled_once_for_each_of_its_forms(source: Path) -> None:
    said: list[str] = []
    assert library(source, said).answer() == 42
    assert library(source, said).answer() == 42
    assert len(said) == 1
    assert "Compiling answer.cpp" in said[0]
    assert library(source, said, 43).answer() == 43
    source.write_text(source.read_text().replace("ANSWER;", "ANSWER + 1;"))
    assert library(source, said).answer() == 43
    assert len(said) == 3
    kept = source.parent / "kept"
    assert len(list(kept.glob("*.so"))) == len(list(kept.glob("*.json"))) == len(list(kept.iterdir())) / 2 == 3
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


@needs_a_compiler
def test_what_was_compiled_needs_no_compiler(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(source, [])
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert library(source, []).answer() == 42


BUILD = """
import sys
from pathlib import Path
from tltool.model.kernels import cpp_library
print(cpp_library.library(Path(sys.argv[1]), ("ANSWER=42",), Path(sys.argv[2]), lambda text: None).answer())
"""


@needs_a_compiler
def test_two_processes_may_compile_at_once(source: Path) -> None:
    words = [sys.executable, "-c", BUILD, str(source), str(source.parent / "kept")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["42\n", "42\n"]
    assert sorted(path.suffix for path in (source.parent / "kept").iterdir()) == [".json", ".so"]
    assert library(source, said := []).answer() == 42
    assert said == []


def built(source: Path) -> Path:
    """Build the library in another process, so that this one has not loaded it; return where it is."""
    subprocess.run([sys.executable, "-c", BUILD, str(source), str(source.parent / "kept")], check=True, cwd=ROOT)
    (there,) = (source.parent / "kept").glob("*.so")
    return there


def flip(path: Path) -> None:
    """Change one byte in the middle."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def own(record: dict[str, Any], path: Path) -> None:
    path.with_suffix(".json").write_text(json.dumps(record))


def plant(path: Path) -> None:
    """Put a whole library there that answers otherwise, as somebody might who may write but not own."""
    other = path.with_name("other.cpp")
    other.write_text('extern "C" int answer() { return 666; }\n')
    subprocess.run([cpp_library.compiler() or "", "-shared", "-fPIC", str(other), "-o", str(path)], check=True)
    other.unlink()


@needs_a_compiler
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b"not a library"), "is not the compiled file"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "is not the compiled file"),
        (flip, "is not the compiled file"),
        (plant, "is not the compiled file"),
        (lambda path: path.with_suffix(".json").unlink(), "has no record of its sha256"),
        (lambda path: own({"checked": []}, path), "has no record of its sha256"),
        (lambda path: path.with_suffix(".json").write_text("[1"), "has no record of its sha256"),
        (lambda path: path.with_suffix(".json").write_text("[1]"), "has no record of its sha256"),
        (lambda path: path.with_suffix(".json").chmod(0o666), "has no record of its sha256"),
        (lambda path: path.chmod(0o777), "belongs to another user, or other users can write to it"),
        (lambda path: path.chmod(0o770), "belongs to another user, or other users can write to it"),
        (lambda path: path.symlink_to(path.rename(path.with_suffix(".moved"))), "belongs to another user"),
    ],
)
def test_a_library_that_is_not_as_it_was_built_is_built_again(source: Path, damage: Any, reason: str) -> None:
    said: list[str] = []
    damage(built(source))
    assert library(source, said).answer() == 42
    assert reason in said[0]
    assert said[0].endswith("; tltool compiles it again.")
    assert len(said) == 2
    assert library(source, said).answer() == 42
    assert len(said) == 2


@needs_a_compiler
@pytest.mark.skipif(os.name != "posix", reason="files have no owner here")
def test_a_library_of_another_user_is_built_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, said = built(source), []
    own_there = cpp_library._own
    monkeypatch.setattr(cpp_library, "_own", lambda facts: facts.st_ino != there.stat().st_ino and own_there(facts))
    assert library(source, said).answer() == 42
    assert "belongs to another user, or other users can write to it" in said[0]


def test_an_owner_is_this_user_or_the_administrator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def owned_by(user: int) -> os.stat_result:
        return os.stat_result((0o100600, 1, 1, 1, user, 0, 0, 0, 0, 0))

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [cpp_library._own(owned_by(user)) for user in (0, 1000, 1001)] == [True, True, False]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert [cpp_library._own(owned_by(user)) for user in (0, 1000)] == [True, False]


@needs_a_compiler
def test_a_folder_of_another_user_is_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(source)
    monkeypatch.setattr(cpp_library, "_own", lambda facts: False)
    with pytest.raises(ResourceError, match=r"kept belongs to another user, .* name another folder in TLTOOL_CACHE"):
        library(source, [])


@needs_a_compiler
@pytest.mark.parametrize("place", ["kept", "."])
def test_a_folder_that_every_user_can_write_to_is_refused(source: Path, place: str) -> None:
    kept = built(source).parent
    (kept.parent / place).chmod(0o777)
    with pytest.raises(ResourceError, match=rf"Every user can write to {(kept.parent / place).resolve()} .* chmod o-w"):
        library(source, [])
    (kept.parent / place).chmod(0o1777 if place == "." else 0o770)
    assert library(source, said := []).answer() == 42
    assert said == []
    assert stat.S_IMODE(kept.stat().st_mode) & 0o22 == 0


@needs_a_compiler
def test_checks_are_remembered_with_the_library_that_passed(source: Path) -> None:
    there = library(source, [])
    assert not cpp_library.passed(there, "one")
    for check in ("one", "two", "one"):
        cpp_library.remember(there, check)
    assert [cpp_library.passed(there, check) for check in ("one", "two", "three")] == [True, True, False]
    record = Path(there._name).with_suffix(".json")
    assert json.loads(record.read_text())["checked"] == ["one", "two"]
    record.unlink()
    cpp_library.remember(there, "one")
    assert not record.exists(), "without its sha256 there is nothing to remember"


def test_without_a_compiler_one_sentence_says_so(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ResourceError, match=r"No C\+\+ compiler was found; .* or use kernels=torch\.$"):
        library(source, [])


def broken(tmp_path: Path) -> Path:
    path = tmp_path / "c++"
    path.write_text("#!/bin/sh\necho 'x.cpp:1: error: out of order' >&2\nexit 1\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_compiler_that_fails_gives_its_first_reason(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(broken(tmp_path)))
    with pytest.raises(ResourceError, match=r"could not compile answer\.cpp \(x\.cpp:1: error: out of order\)"):
        library(source, [])
    assert list((source.parent / "kept").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(broken(tmp_path)))
    (tmp_path / "kept").write_text("a file of that name, which stops root too")
    with pytest.raises(ResourceError, match="could not be compiled"):
        library(source, [])


@pytest.mark.parametrize("there", [True, False], ids=["fails", "missing"])
def test_auto_goes_on_without(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(broken(tmp_path)) if there else "no-such-compiler")
    said: list[str] = []
    assert install.choose("auto", torch.device("cpu"), tmp_path / "kept", said.append).name == "torch"
    assert [line for line in said if "continues with kernels=torch" in line] == (said[1:] if there else [])
    with pytest.raises(ResourceError, match="use kernels=torch"):
        install.choose("compiled", torch.device("cpu"), tmp_path / "kept", said.append)
