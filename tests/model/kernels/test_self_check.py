"""A kernel that computes something else is told in one sentence and not used; one that passed is not compared again."""

import json
import re
import shutil
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support import QUOTIENT, fresh_model

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ResourceError
from tltool.model.kernels import cgcnn_cpp, cpp_kernels, cpp_library, install, rows_cpp, self_check
from tltool.model.kernels.cpp_kernels import CppKernels
from tltool.sweep import stacked_model

pytestmark = pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler is here")
RIGHT = "(at < f ? at : at - f)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Let the kernels be compiled from a source in which ``old`` is ``new``, for vectors of 64 bytes."""
    monkeypatch.setattr(cpp_library, "_FLAGS", [flag.replace("-O3", "-O1") for flag in cpp_library._FLAGS])
    for path in cpp_kernels.SOURCE.parent.glob("*.[ch]*"):
        text = path.read_text().replace(old, new)
        (tmp_path / path.name).write_text(f"#define BYTES 64\n{text}" if path.suffix == ".cpp" else text)
    monkeypatch.setattr(cpp_kernels, "SOURCE", tmp_path / cpp_kernels.SOURCE.name)


def test_the_fault_of_odd_multiples_of_16_is_found_and_plain_pytorch_used(
    crystals: list[Crystal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RIGHT in cpp_kernels.SOURCE.read_text()
    # As it was once: the second vector of a tile follows the first, be it in the next node's row.
    wrong(tmp_path, monkeypatch, RIGHT, "(q < f ? at : at - f)")
    said: list[str] = []
    kernels = install.choose("compiled", folder=tmp_path / "kept", say=said.append)
    assert kernels.cpp is not None
    assert [self_check.convolves(kernels.cpp, torch.float32, width) for width in (32, 48, 64)] == [True, False, True]
    assert len(said) == 2
    assert re.match(
        r"The compiled convolution of 48 features gives results that differ from plain PyTorch in float32 "
        r"\(gradient by .*: .* of its size\); plain PyTorch is used in its place\. Please report this\.$",
        said[1],
    )
    model = fresh_model(overrides=("encoder.dim=48",)).train()
    graph = tensor_table.table(crystal_graphs.build(crystals[:9], QUOTIENT)).select(torch.arange(9))
    kernels.install(model)
    called: list[bool] = []
    monkeypatch.setattr(cgcnn_cpp, "convolutions", lambda *given: called.append(True))
    assert bool(model(graph).isfinite().all())
    assert called == []
    assert stacked_model.alike(model, kernels.cpp) is None
    assert len(said) == 2, "it is told once"


@pytest.mark.parametrize(
    ("where", "what", "of_it"),
    [
        (rows_cpp, "spread", "rows of width"),
        (rows_cpp, "collect", "sums of rows of width"),
        (rows_cpp, "gaussians", "Gaussians of width"),
        (rows_cpp, "soften", "activation of width"),
    ],
)
def test_kernels_around_the_convolutions(
    where: ModuleType, what: str, of_it: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of its own, with no record of a pass; what the library computes is changed where Python gets it."""
    CppKernels(folder, print).load()
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    for record in tmp_path.glob("*.json"):
        record.write_text(json.dumps(json.loads(record.read_text()) | {"checked": []}))
    right = getattr(where, what)
    monkeypatch.setattr(where, what, lambda *given: right(*given).mul_(1.001))
    said: list[str] = []
    with pytest.raises(
        ResourceError, match=rf"results that differ from plain PyTorch \({of_it}.*\); use kernels=torch\.$"
    ):
        install.choose("compiled", folder=tmp_path, say=said.append)
    assert install.choose("auto", folder=tmp_path, say=said.append).name == "torch"
    assert said[-1].endswith("use kernels=torch. This run continues with kernels=torch.")


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_pass_is_recorded_and_not_made_again(
    kind: torch.dtype, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = CppKernels(folder, print)
    self_check.load(first, kind)
    assert self_check.convolves(first, kind, 16)
    monkeypatch.setattr(self_check, "off_by", lambda *given: "compared again")
    cpp = CppKernels(folder, lambda text: None)
    self_check.load(cpp, kind)
    assert self_check.convolves(cpp, kind, 16)
    assert not self_check.convolves(cpp, kind, 32)
    assert cpp_library.passed(cpp.library(kind), "convolution of 16 features")
    assert not cpp_library.passed(cpp.library(kind), "convolution of 32 features")
    assert not self_check.convolves(cpp, kind, 24)
    assert not self_check.convolves(cpp, torch.float16, 16)


def test_what_is_not_a_number_disagrees() -> None:
    right = {"a": torch.ones(3), "b": torch.ones(3)}
    assert self_check.off_by(right, right, 1e-4) == ""
    bad = {"a": torch.tensor([1.0, torch.nan, 1.0]), "b": torch.tensor([1.0, 1.0, 2.0])}
    assert self_check.off_by(right, bad, 1e-4) == "a: inf of its size"
    off = {"b": torch.tensor([1.0, 1.0, 1.1])}
    assert self_check.off_by(right, right | off, 1e-4) == "b: 0.1 of its size"
    assert self_check.off_by(right, right | off, 0.2) == ""


def test_comparing_takes_less_than_20_ms_and_leaves_the_random_numbers_alone(folder: Path) -> None:
    cpp = CppKernels(folder, print)
    self_check.load(cpp)
    torch.manual_seed(3)
    state, taken = torch.get_rng_state(), []
    with torch.inference_mode():
        for _ in range(10):
            begin = time.process_time()
            assert self_check.convolution_off_by(cpp, torch.float32, 32) == ""
            taken.append(time.process_time() - begin)
    assert min(taken) < 0.02
    assert torch.equal(state, torch.get_rng_state())
