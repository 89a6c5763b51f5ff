"""Transfer learning for crystals: pretrain a crystal-graph encoder on much data, transfer it to little.

The command line is ``tltool``; from Python, ``load_model(path).predict(structures)``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tltool.evaluation.predictor import Predictor as Predictor
    from tltool.evaluation.predictor import load_model as load_model

_PUBLIC = {"load_model": "tltool.evaluation.predictor", "Predictor": "tltool.evaluation.predictor"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that ``import tltool`` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tltool' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
