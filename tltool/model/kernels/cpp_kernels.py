"""Hold the compiled kernels of a run: one library per floating-point type, and the number of threads."""

import ctypes
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from tltool import machine
from tltool.errors import ResourceError
from tltool.model.kernels import cpp_library

SOURCE = Path(__file__).with_name("cgcnn.cpp")
LANES = 16
_NUMBERS = {torch.float32: "float", torch.float64: "double"}

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


class CppKernels:
    """Libraries made from ``cgcnn.cpp``, compiled into ``folder`` where they are not there yet.

    ``say`` hears of compilations and of kernels that fail their check. ``threads`` is how many threads a call takes, or
    ``auto``: two while a core is free. Results do not depend on it. ``macros`` of the source beside ``REAL``, as in
    ``BYTES=64``.
    """

    def __init__(
        self,
        folder: Path | None,
        say: Callable[[str], None],
        threads: int | str = 1,
        macros: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.say, self.wanted, self.macros = folder, say, threads, macros
        self._libraries: dict[torch.dtype, ctypes.CDLL] = {}
        self.verified: dict[tuple[torch.dtype, int], bool] = {}
        """Whether the convolution agrees with plain PyTorch, by kind of number and width (``self_check.py``)."""

    def __deepcopy__(self, memo: object) -> "CppKernels":
        return self  # a copy of a model computes with the same libraries

    def load(self, kind: torch.dtype = torch.float32) -> None:
        """Compile or load the library for the floating-point type ``kind``; raise ResourceError if this fails."""
        if kind in self._libraries:
            return
        if self.folder is None:
            raise ResourceError("There is no folder for compiled kernels; use kernels=torch.")
        there = cpp_library.library(SOURCE, (f"REAL={_NUMBERS[kind]}", *self.macros), self.folder, self.say)
        facts, number = ctypes.c_char_p, ctypes.c_int64
        there.prepare.argtypes = [facts, ctypes.c_double]
        there.forward.argtypes = [facts, number, facts, number, number]
        there.backward.argtypes = [*there.forward.argtypes, number, facts, facts]
        there.gaussians.argtypes = [number] * 4 + [ctypes.c_double, number]
        there.spread.argtypes = there.collect.argtypes = [number] * 6
        there.soften.argtypes = [number] * 3
        for name in ("prepare", "forward", "backward", "gaussians", "spread", "collect", "soften"):
            getattr(there, name).restype = None
        self._libraries[kind] = there
        _keep_memory()

    def library(self, kind: torch.dtype) -> ctypes.CDLL:
        """Return the library for the floating-point type ``kind``, which must be loaded."""
        return self._libraries[kind]

    def has(self, kind: torch.dtype) -> bool:
        """Return whether the library for the floating-point type ``kind`` is loaded."""
        return kind in self._libraries

    def forget(self, kind: torch.dtype) -> None:
        """Remove the library for the floating-point type ``kind``."""
        self._libraries.pop(kind, None)

    def takes(self, *tables: Tensor) -> bool:
        """Return whether the kernels support the type and device of ``tables``, for any shape."""
        kinds = {table.dtype for table in tables}
        return len(kinds) == 1 and kinds <= self._libraries.keys() and all(t.device.type == "cpu" for t in tables)

    def threads(self) -> int:
        """Return the largest number of threads for a call."""
        if self.wanted == "auto":
            # Rounded, so that one look serves for five seconds.
            return _free_threads(int(time.monotonic()) // 5)
        return int(self.wanted)


@lru_cache(maxsize=1)
def _free_threads(now: int) -> int:
    cores = machine.cores()
    return 2 if cores // machine.jobs() > 1 and machine.taken() < cores - 1.5 else 1


def _keep_memory() -> None:
    """Let the C library keep what is freed, up to 256 MB, for the next batch: fetching it anew costs 5 % of a step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, size in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 256 << 20), (_TOP_PAD, 32 << 20)):
            mallopt(name, size)
