"""The tests of a GPU can run: some of them do, on the CPU; ``make gpu`` without a GPU says so and lists them all."""

import os
import subprocess
import sys

import pytest
import torch
from support import ROOT

pytestmark = pytest.mark.slow

SOME = "interrupted or memory or not_there or by_its_number"


def on_the_cpu(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-p", "no:cacheprovider", *words]
    environment = os.environ | {"TLTOOL_GPU_TESTS": "dry"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and its tests run themselves")
def test_some_run_on_the_cpu() -> None:
    done = on_the_cpu("-k", SOME)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_make_gpu_says_that_there_is_none_and_lists_them() -> None:
    graph_settings = (ROOT / "Makefile").read_text(encoding="utf-8").split("\ngpu:")[1].split("\n\n")[0]
    shell = "\n".join(line.removesuffix("\\") for line in graph_settings.splitlines()[1:])
    shell = shell.replace("$(BIN)/python", sys.executable).replace("\t", " ").lstrip(" @")
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(["sh", "-c", shell], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "There is no CUDA device here" in done.stdout
    assert "36 tests collected" in done.stdout
