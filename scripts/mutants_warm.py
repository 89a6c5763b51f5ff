"""A pytest plugin of make mutants: import what tests import late, once, before a process is forked for each mutant."""

import gc
from importlib import import_module

for name in ("pandas", "scipy.stats", "sklearn.linear_model", "sklearn.metrics", "torch.distributed.tensor"):
    import_module(name)


def pytest_collection_finish() -> None:
    """Leave all that stands now out of the collections of the processes to come."""
    gc.freeze()
