"""A JSON object read member by member, its long list item by item, so that memory does not grow with the file."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tltool.data import unpack
from tltool.errors import DataError

_PIECE = 1 << 20  # characters
_LONGEST = 1 << 26  # characters of one value; beyond it the text is not what it claims to be
_GOES_ON = ("", ".", "e", "E", "e+", "e-", "E+", "E-")
_decode = json.JSONDecoder().raw_decode


def members(path: Path, listed: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of each member of the object in ``path``, packed or not; of ``listed`` one item at a time.

    Raises DataError if the text is no such object, ends early, or cannot be unpacked.
    """
    with unpack.opened(path) as packed, io.TextIOWrapper(packed, encoding="utf-8") as file:
        text = _Text(file)
        try:
            for _ in text.items("{", "}"):
                key = text.value()
                if not isinstance(key, str):
                    raise ValueError("a key is no word")
                text.take(":")
                if key == listed:
                    yield from ((key, text.value()) for _ in text.items("[", "]"))
                else:
                    yield key, text.value()
            text.end()
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path} is not the JSON object it should be ({error}); download or copy it again."
            ) from error


class _Text:
    """An open JSON text and the place in it."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at = file, "", 0

    def items(self, begin: str, end: str) -> Iterator[None]:
        """Pass ``begin``, stand at each item in turn, which the caller takes, and pass ``end``."""
        self.take(begin)
        if self._next() == end:
            self.take(end)
            return
        while True:
            yield
            if self._next() == end:
                self.take(end)
                return
            self.take(",")

    def take(self, sign: str) -> None:
        """Pass ``sign``; raise ValueError if something else stands there."""
        found = self._next()
        if found != sign:
            raise ValueError(f"{sign} is missing" if found else "it ends early")
        self._at += 1

    def value(self) -> Any:
        """Pass a value and return it."""
        self._next()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    raise ValueError(error.msg) from error  # its places are those of the text at hand, not of the file
                continue
            # A number may go on where the text at hand ends, and is taken for whole before its "." or "e+".
            if self._text[end : end + 3] in _GOES_ON and self._more():
                continue
            self._at = end
            return value

    def end(self) -> None:
        """Raise ValueError unless nothing follows."""
        if self._next():
            raise ValueError("something follows it")

    def _next(self) -> str:
        """Pass white space and return the sign that follows, empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def _more(self) -> bool:
        rest = self._text[self._at :]
        if len(rest) > _LONGEST:
            raise ValueError(f"a value has more than {_LONGEST:,} characters")
        # As much again as waits, so that a long value is not decoded over and over.
        piece = self._file.read(max(_PIECE, len(rest)))
        if piece:
            self._text, self._at = rest + piece, 0
        return bool(piece)
