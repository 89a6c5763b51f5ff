from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tltool
from tltool.model import message_passing
from tltool.model.kernels import cgcnn_cpp, cpp_library
from tltool.model.property_model import PropertyModel
from tltool.training import backend
from tltool.training.saved_model import checkpoint


@pytest.fixture(autouse=True)
def _as_in_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cgcnn_cpp, "_libraries", {})
    monkeypatch.setattr(message_passing, "_chosen", "torch")
    monkeypatch.setattr(backend, "_named", False)
    return


@pytest.fixture
def saved(source: PropertyModel, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "model", source)
    return tmp_path


@pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler is here")
def test_loading_a_model_compiles_once_and_says_so(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLTOOL_CACHE", str(saved / "cache"))
    tltool.load_model(saved, "cpu")
    assert message_passing.chosen() == "compiled"
    assert "Compiling" in capsys.readouterr().err
    cgcnn_cpp._libraries.clear()
    tltool.load_model(saved, "cpu")
    assert message_passing.chosen() == "compiled"
    assert capsys.readouterr().err == ""


def test_kernels_that_were_named_stay(saved: Path) -> None:
    backend.use("torch", torch.device("cpu"), None, print)
    tltool.load_model(saved, "cpu")
    assert message_passing.chosen() == "torch"


def test_no_compiler_is_no_obstacle(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLTOOL_CACHE", str(saved / "cache"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert tltool.load_model(saved, "cpu").model is not None
    assert message_passing.chosen() == "torch"
