"""Empty pictures, for tests that look at words and numbers alone: to draw takes a third of a run, most of a report."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tltool import class_plots, plots
from tltool.plot_style import Both

DRAWN = [(plots, name) for name in ("summary", "parity", "learning_curves", "sizes", "periodic_table")]
DRAWN += [(class_plots, name) for name in ("confusion", "calibration")]


def draw(where: Any, *_: Any, **__: Any) -> None:
    """Write what only looks like a picture."""
    if isinstance(where, Both):
        where.png.write(b"\x89PNG")
        where.svg.write(b"<svg></svg>")
    else:
        Path(where).write_bytes(b"\x89PNG")


@contextmanager
def blank() -> Iterator[None]:
    """Draw nothing in the body."""
    with ExitStack() as kept:
        for module, name in DRAWN:
            kept.enter_context(patch.object(module, name, draw))
        yield
