from pathlib import Path

import pytest

import tltool
from tltool.evaluation.predictor import Predictor
from tltool.model.kernels import cpp_library
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint


@pytest.fixture
def saved(source: PropertyModel, tmp_path: Path) -> Path:
    checkpoint.save(tmp_path / "model", source)
    return tmp_path


def compiled(predictor: Predictor) -> bool:
    """Whether the compiled form of the encoder stands in place of the plain one."""
    return "forward" in vars(predictor.model.encoder)


@pytest.mark.skipif(cpp_library.compiler() is None, reason="no C++ compiler is here")
def test_loading_a_model_compiles_once_and_says_so(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLTOOL_CACHE", str(saved / "cache"))
    quick = ["-O0" if flag == "-O3" else flag for flag in cpp_library._FLAGS]
    monkeypatch.setattr(cpp_library, "_FLAGS", tuple(quick))
    assert compiled(tltool.load_model(saved, "cpu"))
    assert "Compiling" in capsys.readouterr().err
    assert compiled(tltool.load_model(saved, "cpu"))
    assert capsys.readouterr().err == ""


def test_kernels_can_be_named(saved: Path) -> None:
    assert not compiled(tltool.load_model(saved, "cpu", kernels="torch"))


def test_no_compiler_is_no_obstacle(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLTOOL_CACHE", str(saved / "cache"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not compiled(tltool.load_model(saved, "cpu"))
