"""Record the environment of a run: versions, commit, command, device, threads."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tltool import machine

_PACKAGES = (
    "tltool",
    "torch",
    "numpy",
    "pymatgen",
    "hydra-core",
    "omegaconf",
    "scikit-learn",
    "h5py",
    "safetensors",
)


def described(device: torch.device, kernels: str, command: str) -> dict[str, Any]:
    """Return the content of ``environment.json`` for a run of ``command`` on ``device`` with ``kernels``."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in _PACKAGES},
        "commit": _commit(),
        "command": command,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "processes": machine.ranks(),
        "threads": torch.get_num_threads(),
        "kernels": kernels,
    }


def _commit() -> str | None:
    """Return the git commit of the running code if it runs from a checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(  # whichever git the user has
            ["git", "-C", str(here), "rev-parse", "HEAD"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
