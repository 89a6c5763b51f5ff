"""A kernel that computes something else is told in one sentence and not used; one that passed is not compared again."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support import QUOTIENT, fresh_model

from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ResourceError
from tltool.model import message_passing
from tltool.model.kernels import cgcnn_cpp, cpp_library, rows_cpp, self_check
from tltool.sweep import stacked_model

pytestmark = pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler is here")
RIGHT = "(at < f ? at : at - f)"


@pytest.fixture(autouse=True)
def _afterwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cgcnn_cpp, "_libraries", {})
    monkeypatch.setattr(self_check, "_verdicts", {})
    yield
    message_passing.use("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    """Let the kernels be compiled from a source in which ``old`` is ``new``, for vectors of 64 bytes."""
    monkeypatch.setattr(cpp_library, "_FLAGS", [flag.replace("-O3", "-O1") for flag in cpp_library._FLAGS])
    for path in cgcnn_cpp._SOURCE.parent.glob("*.[ch]*"):
        text = path.read_text().replace(old, new)
        (tmp_path / path.name).write_text(f"#define BYTES 64\n{text}" if path.suffix == ".cpp" else text)
    monkeypatch.setattr(cgcnn_cpp, "_SOURCE", tmp_path / cgcnn_cpp._SOURCE.name)


def test_the_fault_of_odd_multiples_of_16_is_found_and_plain_pytorch_used(
    crystals: list[Crystal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RIGHT in cgcnn_cpp._SOURCE.read_text()
    # As it was once: the second vector of a tile follows the first, be it in the next node's row.
    wrong(tmp_path, monkeypatch, RIGHT, "(q < f ? at : at - f)")
    said: list[str] = []
    assert message_passing.use("compiled", folder=tmp_path / "kept", say=said.append) == "compiled"
    assert [self_check.convolves(torch.float32, width) for width in (32, 48, 64)] == [True, False, True]
    assert len(said) == 2
    assert re.match(
        r"The compiled convolution of 48 features gives other numbers than plain PyTorch in float32 \(gradient by .*: "
        r".* of its size\); plain PyTorch is used in its place\. Please report this\.$",
        said[1],
    )
    model = fresh_model(overrides=("encoder.dim=48",)).train()
    graph = tensor_table.table(crystal_graphs.build(crystals[:9], QUOTIENT)).select(torch.arange(9))
    called: list[bool] = []
    monkeypatch.setattr(cgcnn_cpp, "convolutions", lambda *given: called.append(True))
    assert bool(model(graph).isfinite().all())
    assert called == []
    assert stacked_model.alike(model) is None
    assert len(said) == 2, "it is told once"


@pytest.mark.parametrize(
    ("where", "what", "of_it"),
    [
        (rows_cpp, "spread", "rows of width"),
        (rows_cpp, "collect", "sums of rows of width"),
        (rows_cpp, "gaussians", "Gaussians of width"),
        (cgcnn_cpp, "soften", "activation of width"),
    ],
)
def test_kernels_around_the_convolutions(
    where: ModuleType, what: str, of_it: str, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of its own, with no record of a pass; what the library computes is changed where Python gets it."""
    cgcnn_cpp.load(folder, print)
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    for record in tmp_path.glob("*.json"):
        record.write_text(json.dumps(json.loads(record.read_text()) | {"checked": []}))
    cgcnn_cpp.forget(torch.float32)
    right = getattr(where, what)
    monkeypatch.setattr(where, what, lambda *given: right(*given).mul_(1.001))
    said: list[str] = []
    with pytest.raises(ResourceError, match=rf"other numbers than plain PyTorch \({of_it}.*\); use kernels=torch\.$"):
        message_passing.use("compiled", folder=tmp_path, say=said.append)
    assert message_passing.use("auto", folder=tmp_path, say=said.append) == "torch"
    assert said[-1].endswith("use kernels=torch. This run goes on with kernels=torch.")
    assert not cgcnn_cpp.has(torch.float32)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_pass_is_recorded_and_not_made_again(
    kind: torch.dtype, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    self_check.load(folder, print, kind)
    assert self_check.convolves(kind, 16)
    monkeypatch.setattr(self_check, "_verdicts", {})
    monkeypatch.setattr(self_check, "off_by", lambda *given: "compared again")
    cgcnn_cpp.forget(kind)
    self_check.load(folder, print, kind)
    assert self_check.convolves(kind, 16)
    monkeypatch.setitem(self_check._say, kind, lambda text: None)
    assert not self_check.convolves(kind, 32)
    assert cpp_library.passed(cgcnn_cpp.library(kind), "convolution of 16 features")
    assert not cpp_library.passed(cgcnn_cpp.library(kind), "convolution of 32 features")
    assert not self_check.convolves(kind, 24)
    assert not self_check.convolves(torch.float16, 16)


def test_what_is_not_a_number_disagrees() -> None:
    right = {"a": torch.ones(3), "b": torch.ones(3)}
    assert self_check.off_by(right, right, 1e-4) == ""
    bad = {"a": torch.tensor([1.0, torch.nan, 1.0]), "b": torch.tensor([1.0, 1.0, 2.0])}
    assert self_check.off_by(right, bad, 1e-4) == "a: inf of its size"
    off = {"b": torch.tensor([1.0, 1.0, 1.1])}
    assert self_check.off_by(right, right | off, 1e-4) == "b: 0.1 of its size"
    assert self_check.off_by(right, right | off, 0.2) == ""


def test_comparing_takes_less_than_20_ms_and_leaves_the_random_numbers_alone(folder: Path) -> None:
    self_check.load(folder, print)
    torch.manual_seed(3)
    state, taken = torch.get_rng_state(), []
    with torch.inference_mode():
        for _ in range(10):
            begin = time.process_time()
            assert self_check.convolution_off_by(torch.float32, 32) == ""
            taken.append(time.process_time() - begin)
    assert min(taken) < 0.02
    assert torch.equal(state, torch.get_rng_state())
