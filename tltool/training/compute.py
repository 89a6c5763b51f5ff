"""Which compiled code a run computes with: kernels of the model, assembly of batches and optimiser go together."""

from collections.abc import Callable
from pathlib import Path

import torch

from tltool.data import assembly
from tltool.errors import ResourceError
from tltool.model import building, kernels
from tltool.training import adamw, compute_check

_CHECKS = {
    assembly.SOURCE: (compute_check.batches_agree, "batches"),
    adamw.SOURCE: (compute_check.steps_agree, "steps of AdamW"),
}
_named = False


def use(name: str, device: torch.device, folder: Path | None, say: Callable[[str], None]) -> str:
    """Choose as ``kernels.use`` does, which has the errors, and batches and optimiser to match; return the choice."""
    global _named
    chosen, _named = kernels.use(name, device, folder, say), True
    _others(chosen, folder, say)
    return chosen


def use_fastest(device: torch.device, folder: Path, say: Callable[[str], None]) -> None:
    """Choose as ``auto`` does for ``device``, unless somebody has called ``use``, whose choice stands."""
    if not _named:
        _others(kernels.use("auto", device, folder, say), folder, say)


def _others(chosen: str, folder: Path | None, say: Callable[[str], None]) -> None:
    for part in (assembly, adamw):
        library = None
        if chosen == "compiled" and folder is not None:
            try:
                library = building.library(part.SOURCE, (), folder, say)
            except ResourceError as error:
                say(str(error))
        part.use(library)
        agrees, name = _CHECKS[part.SOURCE]
        if library is not None and not compute_check.earned(library, agrees, name, say):
            part.use(None)
