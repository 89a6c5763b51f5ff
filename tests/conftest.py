"""What many tests share: real crystals of the bundled sample, a small data set, and a trained source model."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import blank_pictures
import pytest
import quick_hydra
import torch
from hypothesis import settings
from support import QUOTIENT, a_fit, batches_of, fresh_model

from tltool.data import store
from tltool.data.dataset import BUNDLED, Dataset
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.data.store import Store
from tltool.model.kernels.cpp_kernels import CppKernels
from tltool.model.property_model import PropertyModel
from tltool.model.surgery.edit import new_heads
from tltool.training.backend import CPU
from tltool.training.fit import train
from tltool.training.scaled_labels import scalers
from tltool.training.setup import use_threads

use_threads(1)
settings.register_profile("tltool", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("tltool")


def pytest_runtest_setup() -> None:
    """Begin no test when the time is up that ``make quick`` gives."""
    if time.time() > float(os.environ.get("TLTOOL_TESTS_UNTIL", "inf")):
        pytest.skip("the time of make quick is up; make test runs the rest")


@pytest.fixture(scope="session", autouse=True)
def _hydra_once() -> Iterator[None]:
    with quick_hydra.quick():
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for all tests, those of other processes of this run among them: what is bundled is prepared once.

    ``TLTOOL_TEST_CACHE`` names another, which may be there already.
    """
    base = tmp_path_factory.getbasetemp()
    own = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder = Path(os.environ.get("TLTOOL_TEST_CACHE") or own).absolute()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLTOOL_CACHE", str(folder))
        patch.setenv("TLTOOL_TEST_CACHE", str(folder))  # for tests of tests
        yield folder


@pytest.fixture
def double() -> Iterator[None]:
    """Compute in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def kernel_folder(cache_folder: Path) -> Path:
    """Where compiled kernels are kept for all tests, where a command looks for them too."""
    return cache_folder / "kernels"


@pytest.fixture
def cpp(kernel_folder: Path) -> CppKernels:
    """Compiled kernels for both kinds of number, on one thread."""
    kernels = CppKernels(kernel_folder, print)
    for kind in (torch.float32, torch.float64):
        kernels.load(kind)
    return kernels


@pytest.fixture(scope="module")
def no_pictures() -> Iterator[None]:
    """Draw nothing in the tests of a module that do not look at pictures."""
    with blank_pictures.blank():
        yield


@pytest.fixture(scope="session")
def demo() -> Store:
    """The bundled formation energies."""
    return store.load(BUNDLED / "demo.h5")


@pytest.fixture(scope="session")
def crystals(demo: Store) -> list[Crystal]:
    """Sixty real crystals from all over the bundled sample, one-atom cells and large ones among them."""
    return [demo.crystal(row) for row in range(0, len(demo), len(demo) // 60)][:60]


@pytest.fixture(scope="session")
def part(demo: Store) -> Dataset:
    """Two hundred records with their graphs."""
    records = store.gather([demo.record(row) for row in range(0, 200)], demo.attributes)
    return Dataset(records, crystal_graphs.build([records.crystal(row) for row in range(len(records))], QUOTIENT))


@pytest.fixture(scope="session")
def source(part: Dataset) -> PropertyModel:
    """A model trained on e_form for a few epochs."""
    data = batches_of(part)
    model = fresh_model()
    new_heads(model, scalers(data, reference=False, scale="linear"))
    train(model, data, replace(a_fit(), backend=CPU))
    model.spec["elements"] = sorted(data.elements("train"))
    model.spec["provenance"] = [{"stage": "pretrain", "name": "part"}]
    return model
