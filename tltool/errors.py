"""What can go wrong for a user, and the exit code each kind ends the program with.

Every message is one sentence that names the file, id or key and says what to do next. Codes are part of the
command line's contract (docs/exit_codes.md): 0 ok, 1 unexpected, 2 usage or config, 3 data, 4 checkpoint,
5 numeric, 6 resource, 130 interrupted (Ctrl-C), 143 terminated.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class TltoolError(Exception):
    """Unexpected failure: exit code 1. The subclasses below name the expected ones."""

    code = 1


class ConfigError(TltoolError):
    """A wrong command line or YAML: exit code 2."""

    code = 2


class DataError(TltoolError):
    """Missing, damaged or unusable input data: exit code 3."""

    code = 3


class DamagedError(DataError):
    """A file that tltool prepared is damaged; it can be prepared again from its input: exit code 3."""


class CheckpointError(TltoolError):
    """A model that is damaged, unsafe or does not fit: exit code 4."""

    code = 4


class InapplicableError(ConfigError):
    """A mode that is right in itself and not for this source or these data: exit code 2."""


class NumericError(TltoolError):
    """Non-finite numbers where the run cannot go on: exit code 5."""

    code = 5


class ResourceError(TltoolError):
    """Out of memory or disk, or a folder that cannot be written: exit code 6."""

    code = 6


FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What code raises that meets values it does not know."""


def said(error: BaseException) -> str:
    """Return the kind and the words of ``error`` in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": .")


def is_out_of_memory(error: BaseException) -> bool:
    """Say if ``error`` is that of too little memory, of this machine or of a device."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words


class CellError(Exception):
    """A cell of a sweep failed in a process of its own, which has said why; with its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@contextmanager
def standing_at(place: str, group: str) -> Iterator[None]:
    """Let errors name the keys of a node of ``group`` (data, mode, readout) by its ``place`` in the config at hand.

    Messages name them from the group's own name, as ``data.root``; of ``target.data`` it is ``target.data.root``.
    """
    try:
        yield
    except TltoolError as error:
        if place != group:
            keys = "|".join(_KEYS[group])
            error.args = (re.sub(rf"(?<![\w./@-]){group}\.(?=(?:{keys})\b)", f"{place}.", str(error)),)
        raise


_KEYS = {
    "data": (
        *("adapter", "conditions", "define", "fetch", "file", "name", "parts", "pattern", "quantities", "root"),
        *("sha256", "uncertainty", "weight"),
    ),
    "mode": ("[a-z_0-9]+",),
    "readout": ("statistics",),
}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known word, or all known words when none is near."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(words)}." if words else ""
