"""Weights from pickles: tensors and plain values, converted once; code in them does not run."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tltool.errors import CheckpointError
from tltool.potentials.tensors_only import weights


def pick(held: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return held["tensors"], held["settings"]


def test_weights_are_converted_once(tmp_path: Path) -> None:
    file, cache = tmp_path / "w.tar", tmp_path / "cache"
    torch.save({"tensors": {"a": torch.arange(3.0)}, "settings": {"n": 2, "word": None}}, file)
    first = weights(file, cache, pick)
    assert first.tensors["a"].tolist() == [0, 1, 2]
    assert first.settings == {"n": 2, "word": None}

    def never(held: Any) -> Any:
        raise AssertionError

    again = weights(file, cache, never)
    assert again.tensors["a"].tolist() == [0, 1, 2]
    assert again[1:] == first[1:]
    (kept,) = cache.rglob("*.safetensors")
    kept.write_bytes(b"damaged")
    assert weights(file, cache, pick).digest == first.digest
    torch.save({"tensors": {"a": torch.zeros(3)}, "settings": {}}, file)
    assert weights(file, cache, pick).tensors["a"].tolist() == [0, 0, 0]


def test_arrays_of_numbers_are_data(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"tensors": {}, "settings": {"shift": np.arange(3, dtype=np.float32)}}, file)
    found = weights(file, tmp_path / "cache", lambda held: ({}, {"shift": held["settings"]["shift"].tolist()}))
    assert found.settings == {"shift": [0.0, 1.0, 2.0]}


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("what", ["code", "no tensors", "no pickle"])
def test_a_pickle_with_anything_else_is_refused(tmp_path: Path, what: str) -> None:
    file, mark = tmp_path / "w.tar", tmp_path / "ran"
    if what == "no pickle":
        file.write_text("words")
    else:
        torch.save({"tensors": {}, "settings": {"a": Evil(mark)}} if what == "code" else {"other": 1}, file)
    with pytest.raises(CheckpointError, match=r"w\.tar has more than tensors and plain values, or lacks them"):
        weights(file, tmp_path / "cache", pick)
    assert not mark.exists()
    assert not list(tmp_path.glob("cache/**/*.safetensors"))
