"""Which kernels a run computes with: those that were named, or else the fastest for the device."""

from collections.abc import Callable
from pathlib import Path

import torch

from tltool.model import message_passing

_named = False


def use(name: str, device: torch.device, folder: Path | None, say: Callable[[str], None]) -> str:
    """Choose as ``message_passing.use`` does, which has the errors; return the choice."""
    global _named
    chosen, _named = message_passing.use(name, device, folder, say), True
    return chosen


def use_fastest(device: torch.device, folder: Path, say: Callable[[str], None]) -> None:
    """Choose as ``auto`` does for ``device``, unless somebody has called ``use``, whose choice stands."""
    if not _named:
        message_passing.use("auto", device, folder, say)
