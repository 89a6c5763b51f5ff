"""The way to DGL, which is older than today's torch and setuptools.

DGL 2.1.0 is its newest wheel for Linux on the package index. Its import needs ``setuptools.extern.packaging``, gone
from setuptools, and ``dgl.graphbolt``, whose compiled part exists for old torch only and which tltool does not use.
Where the plain import fails, both names are filled before the second try.
"""

import importlib
import os
import sys
import types
from functools import cache
from typing import Any

from tltool.errors import ConfigError


@cache
def load() -> Any:
    """Return the ``dgl`` module; raise ConfigError, naming ``kernels=torch`` as the way on, if it will not import."""
    # Without this DGL writes a settings file into the home folder and prints about it.
    os.environ.setdefault("DGLBACKEND", "pytorch")
    try:
        return importlib.import_module("dgl")
    except Exception:  # DGL's import fails with several kinds of exception, by version
        _forget()
    _fill()
    try:
        return importlib.import_module("dgl")
    except Exception as error:
        _forget()
        raise ConfigError(
            f"DGL does not import here ({error}); use kernels=torch, or install the dgl that pyproject.toml names."
        ) from error


def _forget() -> None:
    for name in [n for n in sys.modules if n == "dgl" or n.startswith("dgl.")]:
        del sys.modules[name]


def _fill() -> None:
    import packaging.version

    extern = types.ModuleType("setuptools.extern")
    extern.packaging = packaging  # type: ignore[attr-defined]
    sys.modules.setdefault("setuptools.extern", extern)
    sys.modules.setdefault("setuptools.extern.packaging", packaging)
    sys.modules["dgl.graphbolt"] = types.ModuleType("dgl.graphbolt")
