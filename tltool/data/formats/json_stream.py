"""Read JSON text value by value, so that memory does not grow with the file.

Lists at the top level, and lists directly in a top-level object, are read element by element; everything else is read
as a whole. NaN and Infinity are read in Python's spelling.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from tltool.errors import DataError

PIECE = 1 << 20
"""Number of characters that are read at a time."""

LONGEST = 1 << 26
"""Largest number of characters of one value."""

_BLANK = re.compile(r"\s*")


def members(handle: TextIO, path: Path, /) -> Iterator[tuple[str, bool, Any]]:
    """Yield (key, False, value) of the top-level object, and (key, True, element) for each element of a list in it.

    The key of the elements of a top-level list is ``""``. Raise DataError naming ``path`` if the text is incomplete or
    not JSON.
    """
    decode = json.JSONDecoder().raw_decode
    text, at = "", 0

    def more() -> None:
        nonlocal text, at
        if len(text) - at > LONGEST:
            raise DataError(f"{path} contains a value of more than {LONGEST:,} characters; check its source.")
        try:
            # Read as much again as is not yet parsed, so that a long value is not parsed once per piece.
            piece = handle.read(max(PIECE, len(text) - at))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text, or is damaged; repair it or download it again.") from error
        if not piece:
            near = f"near {text[at : at + 30]!r}" if text[at:].strip() else "at its end"
            raise DataError(f"{path} is incomplete or not JSON ({near}); repair it or download it again.")
        text, at = text[at:] + piece, 0

    def sign() -> str:
        """Return the next character that is not blank, without moving past it."""
        nonlocal at
        while True:
            at = _end_of_blanks(text, at)
            if at < len(text):
                return text[at]
            more()

    def passed(expected: str) -> str:
        nonlocal at
        found = sign()
        if found not in expected:
            raise DataError(f"{path} is not JSON near {text[at : at + 30]!r}; repair it or download it again.")
        at += 1
        return found

    def value() -> Any:
        nonlocal at
        sign()
        while True:
            try:
                found, end = decode(text, at)
            except json.JSONDecodeError:
                more()
                continue
            except RecursionError as error:
                raise DataError(f"{path} contains JSON that is nested too deeply; check its source.") from error
            except ValueError as error:
                raise DataError(f"{path} contains a number with thousands of digits; check its source.") from error
            # A number is complete only if another character follows: 12 may be the beginning of 12.5.
            end = _end_of_blanks(text, end)
            if text[end : end + 1] in (",", ":", "]", "}"):
                at = end
                return found
            more()

    def elements() -> Iterator[Any]:
        nonlocal at
        passed("[")
        if sign() == "]":
            at += 1
            return
        yield value()
        while passed(",]") == ",":
            yield value()

    if sign() == "[":
        for element in elements():
            yield "", True, element
        return
    passed("{")
    if sign() == "}":
        return
    while True:
        key = str(value())
        passed(":")
        if sign() == "[":
            for element in elements():
                yield key, True, element
        else:
            yield key, False, value()
        if passed(",}") == "}":
            return


def _end_of_blanks(text: str, at: int) -> int:
    return _BLANK.match(text, at).end()  # type: ignore[union-attr]
