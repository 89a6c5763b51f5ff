"""How many cells of a sweep run at a time: one on each GPU."""

import sys
from importlib.util import find_spec

from tltool import machine
from tltool.command_line.usage import TRAINING

ANY_GPU = ("auto", "cuda")
"""Values of ``device`` that name no GPU, so that each cell of a sweep can have one of its own."""


def words(stage: str, given: list[str]) -> list[str]:
    """Return the words to add to those ``given``, so that a sweep of ``stage`` runs one cell per GPU at a time.

    None if those given choose a launcher other than joblib, how many cells run at a time, or a device that is no GPU.
    """
    values = dict(word.partition("=")[::2] for word in given)
    launcher = values.get("hydra/launcher")
    if stage not in TRAINING or not {"-m", "--multirun"} & set(given) or machine.ranks() > 1:
        return []
    if launcher not in (None, "joblib") or "hydra.launcher.n_jobs" in values:
        return []
    number = len(machine.gpus()) if values.get("device", "auto") in ANY_GPU else 0
    if launcher is None and number < 2:
        return []
    if find_spec("hydra_plugins") is None or find_spec("hydra_plugins.hydra_joblib_launcher") is None:
        print(f"This sweep uses one of {number} GPUs; pip install 'tltool[joblib]' to use all.", file=sys.stderr)
        return []
    if launcher is None:
        print(f"The runs of this sweep are distributed over {number} GPUs (hydra/launcher=joblib).", file=sys.stderr)
    return [*([] if launcher else ["hydra/launcher=joblib"]), *([f"hydra.launcher.n_jobs={number}"] if number else [])]
