import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import ROOT

from tltool.errors import ResourceError
from tltool.model import building, compiled, kernels

needs_a_compiler = pytest.mark.skipif(building.compiler() is None, reason="no C++ compiler is here")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.cpp"
    path.write_text('extern "C" int answer() { return ANSWER; }\n')
    return path


def library(source: Path, said: list[str], answer: int = 42):
    return building.library(source, (f"ANSWER={answer}",), source.parent / "kept", said.append)


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
    assert len(list((source.parent / "kept").iterdir())) == 3


@needs_a_compiler
def test_what_was_compiled_needs_no_compiler(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library(source, [])
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert library(source, []).answer() == 42


@needs_a_compiler
def test_a_damaged_library_is_built_anew(source: Path) -> None:
    kept = source.parent / "kept"
    said: list[str] = []
    subprocess.run([sys.executable, "-c", BUILD, str(source), str(kept)], check=True, cwd=ROOT)
    (there,) = kept.iterdir()
    there.write_bytes(b"not a library")
    assert library(source, said).answer() == 42
    assert "does not load and is built anew" in said[0]


BUILD = """
import sys
from pathlib import Path
from tltool.model import building
print(building.library(Path(sys.argv[1]), ("ANSWER=42",), Path(sys.argv[2]), lambda text: None).answer())
"""


@needs_a_compiler
def test_two_processes_may_compile_at_once(source: Path) -> None:
    words = [sys.executable, "-c", BUILD, str(source), str(source.parent / "kept")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["42\n", "42\n"]
    assert len(list((source.parent / "kept").iterdir())) == 1


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
    with pytest.raises(ResourceError, match="could not be built"):
        library(source, [])


@pytest.mark.parametrize("there", [True, False], ids=["fails", "missing"])
def test_auto_goes_on_without(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(broken(tmp_path)) if there else "no-such-compiler")
    monkeypatch.setattr(compiled, "_libraries", {})
    said: list[str] = []
    assert kernels.use("auto", torch.device("cpu"), tmp_path / "kept", said.append) == "torch"
    assert [line for line in said if "goes on with kernels=torch" in line] == (said[1:] if there else [])
    with pytest.raises(ResourceError, match="use kernels=torch"):
        kernels.use("compiled", torch.device("cpu"), tmp_path / "kept", said.append)
    assert kernels.chosen() == "torch"
