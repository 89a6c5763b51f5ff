"""``tltool doctor``: each line says what is there, or what to do."""

from pathlib import Path

import pytest
import torch
from commands import run

from tltool.command_line.commands import doctor as module
from tltool.command_line.commands.doctor import doctor
from tltool.errors import ConfigError, ResourceError


def lines(tmp_path: Path, *words: str) -> tuple[dict[str, tuple[str, str]], int]:
    text, code = doctor([f"cache={tmp_path / 'cache'}", f"runs={tmp_path / 'runs'}", *words])
    parts = [line.split(maxsplit=2) for line in text.splitlines()]
    return {topic: (state, said) for state, topic, said in parts}, code


def test_a_machine_without_a_gpu_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_seen_by_the_driver", list)
    found, code = lines(tmp_path)
    assert code == 0
    assert found["GPU"] == ("ok", "none; tltool computes on the processor") or "CUDA" in found
    assert found["cache"][0] == found["runs"][0] == "ok"
    assert "bundled/cgcnn" in found["pretrained"][1]
    assert f"torch {torch.__version__.partition('+')[0]}" in found["packages"][1]
    assert not (tmp_path / "cache").exists(), "looking makes nothing"


def test_a_gpu_without_a_cuda_build_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 570.00'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(torch.version, "cuda", None)
    found, code = lines(tmp_path)
    assert code == ResourceError.code
    assert found["driver"] == ("ok", "NVIDIA H100, 81559 MiB, 570.00")
    state, said = found["GPU"]
    assert state == "do"
    assert f"-m pip install --force-reinstall torch=={torch.__version__.partition('+')[0]}" in said


def test_a_driver_that_torch_cannot_use_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "_seen_by_the_driver", lambda: ["NVIDIA H100, 81559 MiB, 400.00"])
    found, code = lines(tmp_path)
    assert (found["GPU"][0], code) == ("do", ResourceError.code)
    assert "the driver is too old" in found["GPU"][1]


def test_a_place_that_cannot_be_written_and_a_missing_package_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PACKAGES", ("torch", "dgl-not-there", "not-there"))
    monkeypatch.setattr(module, "_OPTIONAL", ("dgl-not-there",))
    (tmp_path / "file").write_text("")
    found, code = lines(tmp_path, f"runs={tmp_path / 'file' / 'runs'}")
    assert code == ResourceError.code
    assert found["runs"][0] == found["not-there"][0] == "do"
    assert "name another folder with runs=DIR" in found["runs"][1]
    assert found["dgl-not-there"][0] == "note"


def test_without_a_compiler_it_says_what_one_gains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    monkeypatch.setenv("TLTOOL_CACHE", str(tmp_path / "empty"))
    found, _ = lines(tmp_path)
    assert found["kernels"][0] == "note"
    assert "C++ compiler" in found["kernels"][1]


def test_other_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'cache'\?$"):
        doctor(["cach=x"])
    done = run(tmp_path, "doctor", "x", code=2)
    assert "tltool doctor takes cache=DIR and runs=DIR, not 'x'" in done.stderr
