"""Packages that not every machine can have, and the tests that need them."""

from importlib.util import find_spec

import pytest

DGL = pytest.mark.skipif(find_spec("dgl") is None, reason="DGL is not installed: it has no wheel for every Python")
