"""Cut large tensors into pieces that stay in the processor's cache for several operations."""

from collections.abc import Iterator

from torch import Tensor

_NUMBERS = 2**16  # of one piece: 256 kB in single precision


def of(rows: Tensor, n: int | None = None) -> Iterator[slice]:
    """Yield slices of ``rows`` (r, f), or of ``n`` rows like them; one for all where there is no such cache.

    There is none but on the CPU.
    """
    n = len(rows) if n is None else n
    step = max(1, _NUMBERS // max(rows.shape[1], 1)) if rows.device.type == "cpu" else max(n, 1)
    for begin in range(0, n, step):
        yield slice(begin, min(begin + step, n))
