"""The tests of a GPU can run: some of them do, on the CPU; ``make gpu`` without a GPU says so and lists them all."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from forks import fork
from support import ROOT

pytestmark = pytest.mark.slow

SOME = "interrupted or memory or not_there or by_its_number"


def pytest_says(*words: str, **env: str) -> tuple[int | None, str]:
    """Run pytest with ``words`` in a fork of this process; return its exit code and what it said."""

    def work() -> int:
        # What the tests of this process have imported and set is not theirs.
        for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
            del sys.modules[name]
        for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST"):
            os.environ.pop(name, None)
        return int(pytest.main(["-p", "no:cacheprovider", *words]))

    process = fork(work, ROOT, **env)
    said = "".join(process.communicate(timeout=300))
    return process.returncode, said


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and its tests run themselves")
def test_some_run_on_the_cpu() -> None:
    code, said = pytest_says("tests/gpu", "-q", "-k", SOME, TLTOOL_GPU_TESTS="dry")
    assert code == 0, said
    assert "4 passed" in said


def test_make_gpu_says_that_there_is_none_and_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the recipe with a Python that writes down what it is called with; do that here, where torch is imported."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done >>"$0.called"\ntest "$1" != -c\n')
    python.chmod(0o755)
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ngpu:")[1].split("\n\n")[0]
    shell = "\n".join(line.removesuffix("\\") for line in recipe.splitlines()[1:])
    shell = shell.replace("$(BIN)/python", shlex.quote(str(python))).replace("\t", " ").lstrip(" @")
    done = subprocess.run(["sh", "-c", shell], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "There is no CUDA device here" in done.stdout

    option, code, *words = (tmp_path / "python.called").read_text().splitlines()
    assert (option, words[:2]) == ("-c", ["-m", "pytest"])
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        with pytest.raises(SystemExit) as end:
            exec(code, {})
        assert end.value.code == (not there)
    found, said = pytest_says(*words[2:], CUDA_VISIBLE_DEVICES="")
    assert found == 0, said
    assert "36 tests collected" in said
