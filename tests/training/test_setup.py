"""What has no logarithm is in no part of the split, and is counted and named; a run has one number of threads."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import run, threads_kept
from support import QUOTIENT, config
from threadpoolctl import threadpool_info

from tltool.data.dataset import Dataset
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal, Record
from tltool.data.store import gather
from tltool.stages import pretrain
from tltool.training import setup


def test_moduli_without_a_logarithm_are_counted() -> None:
    cube = Crystal(3 * np.eye(3), np.zeros((1, 3)), np.array([29]))
    labels = [{"K_VRH": 100.0 + n} for n in range(40)]
    labels[3], labels[5], labels[7] = {"K_VRH": -12.5}, {"K_VRH": 0.0}, {"gap": 1.0}
    records = gather([Record(f"mp-{n}", cube, each) for n, each in enumerate(labels)], {})
    data = Dataset(records, crystal_graphs.build([cube] * len(labels), QUOTIENT))
    said: list[str] = []
    _, split = setup.split_batches(config("pretrain"), data, ["log10_K_VRH"], said.append)
    assert said == [
        "3 of 40 crystals have no label for log10_K_VRH and are left out.",
        "  2 of them because K_VRH is zero or less (first: mp-3, -12.5 GPa)",
    ]
    assert not {3, 5, 7} & {int(row) for part in split for row in part}
    said.clear()
    setup.split_batches(config("pretrain"), data, ["K_VRH"], said.append)
    assert said == ["1 of 40 crystals have no label for K_VRH and are left out."]


def threads_of_all() -> set[int]:
    """Return the numbers of threads that libraries compute with, or will when they are loaded."""
    later = {int(os.environ[name]) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return later | {torch.get_num_threads()} | {library["num_threads"] for library in threadpool_info()}


@pytest.fixture
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with threads_kept():
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            monkeypatch.setenv(name, os.environ[name])
        yield


@pytest.mark.usefixtures("_restored")
@pytest.mark.parametrize("count", [1, 2])
def test_every_library_of_a_run_has_its_number_of_threads(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SciPy's BLAS is another than that of NumPy, and the OpenMP of scikit-learn another than that of PyTorch.
    for name in ("scipy.linalg", "sklearn.linear_model"):
        importlib.import_module(name)
    setup.use_threads(3 - count)
    seen: list[set[int]] = []
    monkeypatch.setattr(pretrain, "run", lambda *_: seen.append(threads_of_all()))
    run(tmp_path, "pretrain", f"threads={count}", "runs=runs")
    assert seen == [{count}]
    assert threads_of_all() == {3 - count}
