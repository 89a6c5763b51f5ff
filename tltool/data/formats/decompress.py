"""Read a gzip, xz, bzip2 or plain file as a stream of bytes with a limit on the decompressed size.

The first bytes of a file decide its type, not its name. A small file that decompresses without end, a damaged file and
an incomplete file raise a DataError that names the file.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from tltool.errors import DataError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_Open = Callable[[Path], BinaryIO | Any]
_BEGINS: dict[bytes, _Open] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


class Bounds(NamedTuple):
    """Limit of the decompressed size: ``bytes`` in total and, above ``free`` bytes, ``ratio`` times the file size.

    Tables of crystals decompress to 5 to 15 times their size.
    """

    bytes: int = 20 * 10**9
    ratio: int = 100
    free: int = 10**8


BOUNDS = Bounds()


def opened(path: Path, bounds: Bounds = BOUNDS) -> io.BufferedReader:
    """Open the decompressed bytes of ``path``; use them in a ``with``.

    Raise DataError if the file cannot be opened. Reading raises DataError if the file is damaged, incomplete, or larger
    than ``bounds`` after decompression.
    """
    try:
        with path.open("rb") as file:
            head, size = file.read(6), path.stat().st_size
        opener = next((how for begin, how in _BEGINS.items() if head.startswith(begin)), io.FileIO)
        return io.BufferedReader(_Bounded(opener(path), path, min(bounds.bytes, max(bounds.free, bounds.ratio * size))))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check the name and the permissions of the file."
        ) from error


class _Bounded(io.RawIOBase):
    """An open file that raises DataError after ``most`` bytes."""

    def __init__(self, stream: BinaryIO | Any, path: Path, most: int) -> None:
        self._stream, self._path, self._most, self._given = stream, path, most, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill ``buffer`` and return the number of bytes; raise DataError for a damaged or too large file."""
        view = memoryview(buffer).cast("B")
        try:
            piece = self._stream.read(len(view))
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{self._path} is damaged or incomplete ({error}); download or copy it again.") from error
        self._given += len(piece)
        if self._given > self._most:
            raise DataError(
                f"{self._path} has more than {self._most:,} bytes after decompression, which is unlikely for a table "
                "of crystals; check its source."
            )
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        super().close()
