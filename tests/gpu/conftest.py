"""What the tests of a GPU share: the device, and commands of ``tltool`` run in this process.

They are skipped where there is no CUDA device. With ``TLTOOL_GPU_TESTS=dry`` they run on the CPU instead, which shows
that they can run, and nothing about a GPU.
"""

import os
from pathlib import Path

import pytest
import torch
from support import Command

from tltool.command_line.launch import launch

DRY = os.environ.get("TLTOOL_GPU_TESTS") == "dry"


@pytest.fixture(scope="session")
def gpu() -> str:
    """Return the device to test: CUDA, or the CPU in a dry run."""
    if torch.cuda.is_available():
        return "cuda"
    if DRY:
        return "cpu"
    pytest.skip("there is no CUDA device")


@pytest.fixture(scope="session")
def real(gpu: str) -> bool:
    """Say whether there is a GPU, so that something only it can do is worth looking at."""
    return gpu == "cuda"


@pytest.fixture(scope="session")
def tltool(gpu: str, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Return what runs a command in this process."""
    home = tmp_path_factory.mktemp("gpu")
    count = 0

    def run(stage: str, *words: str, code: int = 0) -> Path:
        nonlocal count
        count += 1
        folder = home / "runs" / f"{stage}-{count}"
        given = [*words, f"hydra.run.dir={folder}", f"runs={home / 'runs'}"]
        assert launch(stage, given) == code
        return folder

    return run
