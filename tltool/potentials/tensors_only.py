"""Weights that a package has as a pickle, converted once to safetensors and plain values.

PyTorch's ``weights_only`` reads the pickle: it builds tensors, arrays and plain values and calls nothing else, so that
a package with changed weights cannot run code through them.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tltool.errors import CheckpointError, ResourceError

_TENSORS, _REST = "model.safetensors", "settings.json"


class Weights(NamedTuple):
    """The ``tensors`` of a network by name, the ``settings`` to build it with, and the sha256 of the file."""

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    digest: str


def weights(pickle: Path, cache: Path, pick: Callable[[Any], tuple[dict[str, Tensor], dict[str, Any]]]) -> Weights:
    """Return the weights in the file ``pickle``, from the folder ``cache`` if it was converted before.

    ``pick`` takes tensors and settings from what the file holds. Raise CheckpointError for a file with anything but
    tensors and plain values, and ResourceError for a cache that cannot be written.
    """
    with pickle.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    folder = cache / f"weights-{digest[:16]}"
    try:
        return Weights(load_file(folder / _TENSORS), json.loads((folder / _REST).read_text(encoding="utf-8")), digest)
    except (OSError, SafetensorError, ValueError):
        pass  # not converted yet, or damaged
    try:
        with torch.serialization.safe_globals(_arrays()):
            tensors, settings = pick(torch.load(pickle, map_location="cpu", weights_only=True))
        text = json.dumps(settings)
    except Exception as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{pickle} has more than tensors and plain values, or lacks them ({why[:200]}); install its package again."
        ) from error
    _keep(folder, {name: one.contiguous() for name, one in tensors.items()}, text)
    return Weights(tensors, settings, digest)


def _arrays() -> list[Any]:
    """Return what builds an array of numbers from a pickle; pickles name the place of NumPy 1 or of NumPy 2."""
    rebuild = np.empty(0).__reduce__()[0]
    places = [(rebuild, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return [*places, np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8"))]


def _keep(folder: Path, tensors: dict[str, Tensor], text: str) -> None:
    """Write both files into ``folder``, each whole or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        first, second = (folder / f".{name}.{os.getpid()}.tmp" for name in (_TENSORS, _REST))
        save_file(tensors, first)
        second.write_text(text, encoding="utf-8")
        first.replace(folder / _TENSORS)
        second.replace(folder / _REST)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise ResourceError(f"Cannot write to cache={folder} ({why}); name another folder.") from error
