"""Transfer learning for crystals: pretrain a crystal-graph encoder on much data, transfer it to little.

The command line is ``tltool``. From Python: ``load_model(path).predict(structures)``, ``embed(structures)``, and
``TransferRegressor`` and ``TransferClassifier``, estimators of scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tltool.evaluation.predictor import Predictor as Predictor
    from tltool.evaluation.predictor import load_model as load_model
    from tltool.python_api.embedding import embed as embed
    from tltool.python_api.estimators import TransferClassifier as TransferClassifier
    from tltool.python_api.estimators import TransferRegressor as TransferRegressor

_PUBLIC = {
    "load_model": "tltool.evaluation.predictor",
    "Predictor": "tltool.evaluation.predictor",
    "embed": "tltool.python_api.embedding",
    "TransferClassifier": "tltool.python_api.estimators",
    "TransferRegressor": "tltool.python_api.estimators",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that ``import tltool`` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tltool' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
