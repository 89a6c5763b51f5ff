"""Download an address to a complete, checked file on disk, and continue earlier downloads.

During the download, ``target.part`` contains the bytes so far and ``target.part.json`` identifies their file.
``http.py`` makes the requests, and ``receipt.py`` records the file.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from tltool.data.download import http, receipt
from tltool.data.download.http import Again, Hopeless, Limits, Say
from tltool.data.download.receipt import beside
from tltool.errors import DataError, ResourceError

_BEGINS = {".bz2": b"BZh", ".gz": b"\x1f\x8b", ".xz": b"\xfd7zXZ"}
_PAGES = (".html", ".htm", ".xml", ".cml")
_PIECE = 1 << 20


class Progress(NamedTuple):
    """Progress of a download: bytes ``done`` of ``size`` (None: unknown), ``file`` of ``files``, bytes in total."""

    name: str
    done: int
    size: int | None
    file: int = 1
    files: int = 1
    in_all: int = 0


Watch = Callable[[Progress], None]


class _Note(NamedTuple):
    """What identifies a version of the file at an address."""

    etag: str | None = None
    modified: str | None = None
    size: int | None = None


def fetch(address: str, target: Path, *, sha256: str | None, limits: Limits, say: Say, progress: Watch) -> Path:
    """Download ``address`` (http, https, file:// or a path) to ``target``, and return that.

    ``target`` is created complete or not at all. An existing ``target`` is only checked: against ``sha256`` if given,
    otherwise against the hash recorded at its first use. Raise DataError if the download fails or the hash differs, and
    ResourceError if the disk is full or cannot be written.
    """
    part, source, whence = beside(target, ".part"), http.local(address), http.shown(address)
    with receipt.disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with receipt.alone(target, say):
        try:
            if target.is_file():
                with target.open("rb") as handle:
                    _refuse(handle.read(16), target.name)
                receipt.check(target, sha256, whence)
                return target
            etag = None
            if source is not None:
                _copied(source, target, part, limits, progress)
            else:
                etag = http.patiently(
                    lambda: _continued(address, target, part, limits, progress),
                    lambda: _size(part),
                    target.name,
                    limits,
                    say,
                )
        except (Again, Hopeless, OSError) as error:
            kept = f" ({_size(part):,} bytes are kept)" if _size(part) else ""
            raise DataError(
                f"{target.name} could not be downloaded from {whence}: {error}{kept}; run the command again later, or "
                f"copy the file to {target}."
            ) from error
        receipt.settle(part, target, sha256, whence, etag)
    return target


def _continued(address: str, target: Path, part: Path, limits: Limits, progress: Watch) -> str | None:
    """Download the missing bytes of ``part`` with one request; return the file's ETag, or None."""
    note = _note(part, address)
    # A weak ETag does not guarantee the same bytes, so it cannot protect a resumed download.
    guard = note.etag if note.etag and not note.etag.startswith("W/") else note.modified
    have = _size(part) if guard else 0
    if have and have == note.size:
        return note.etag
    ask = {"Range": f"bytes={have}-", "If-Range": guard} if have and guard else {}
    with http.get(address, ask, limits) as response:
        first, size = http.span(response)
        now = _Note(response.headers.get("ETag"), response.headers.get("Last-Modified"), size)
        if response.status_code == 200:
            have = 0
        else:
            other = any(None not in pair and pair[0] != pair[1] for pair in zip(note, now, strict=True))
            if response.status_code == 416 and have and have == size and not other:
                return note.etag
            if first != have or (have and other):
                part.unlink(missing_ok=True)
                raise Again("the server does not continue where the download stopped")
        if "text/html" in response.headers.get("Content-Type", "") and target.suffix not in _PAGES:
            raise Hopeless("the server sent a web page (HTML) instead of the file")
        _bounded(size, have, target, limits)
        body = http.pieces(response, limits)
        if not have:
            body = _begun(body, part, target, {"address": http.shown(address)} | now._asdict())
        _append(body, part, target, have, size, limits, progress)
    return now.etag


def _copied(source: Path, target: Path, part: Path, limits: Limits, progress: Watch) -> None:
    """Copy a file of a local mirror to ``part``."""
    if not source.is_file():
        raise Hopeless("there is no such file")
    try:
        size = source.stat().st_size
        _bounded(size, 0, target, limits)
        with source.open("rb") as handle:
            body = _begun(iter(lambda: handle.read(_PIECE), b""), part, target, {})
            _append(body, part, target, 0, size, limits, progress)
    except OSError as error:
        raise Hopeless(f"the file cannot be read ({error.strerror or error})") from error


def _begun(body: Iterator[bytes], part: Path, target: Path, note: dict[str, Any]) -> Iterator[bytes]:
    """Check the first bytes of ``body``, empty ``part``, and write ``note`` next to it; return the whole body."""
    head = b""
    while len(head) < 16 and (piece := next(body, b"")):
        head += piece
    _refuse(head, target.name)  # before the old bytes are removed: a login page must not replace half a download
    with receipt.disk(target):
        part.open("wb").close()
    receipt.written(beside(part, ".json"), json.dumps(note))
    return chain([head], body)


def _append(
    body: Iterable[bytes], part: Path, target: Path, done: int, size: int | None, limits: Limits, progress: Watch
) -> None:
    with receipt.disk(target), part.open("ab") as handle:
        for piece in body:
            done += len(piece)
            if done > limits.bytes:
                raise Hopeless(f"the file is larger than the limit of {limits.bytes:,} bytes")
            handle.write(piece)
            handle.flush()  # so that a killed process loses no received bytes
            progress(Progress(target.name, done, size, in_all=done))
    if size not in (None, done):
        raise Again(f"the server announced {size:,} bytes and sent {done:,}")


def _bounded(size: int | None, have: int, target: Path, limits: Limits) -> None:
    if size is not None and size > limits.bytes:
        raise Hopeless(f"the file has {size:,} bytes, and the limit is {limits.bytes:,}")
    free = shutil.disk_usage(target.parent).free
    if size is not None and size - have > free:
        raise ResourceError(
            f"{target} needs {size - have:,} more bytes, but only {free:,} bytes are free; free disk space."
        )


def _refuse(head: bytes, name: str) -> None:
    suffix = Path(name).suffix
    if not head:
        raise Hopeless("the file is empty")
    if re.match(rb"(\xef\xbb\xbf)?\s*<", head) and suffix not in _PAGES:
        raise Hopeless("the content is a web page (HTML), not the file")
    if not head.startswith(_BEGINS.get(suffix, b"")):
        raise Hopeless(f"the content is not a {suffix} file (it begins with {head[:8]!r})")


def _note(part: Path, address: str) -> _Note:
    """Return the note about the bytes in ``part``; an empty one if they are not from ``address``."""
    try:
        note = json.loads(beside(part, ".json").read_text(encoding="utf-8"))
        if note.pop("address") == http.shown(address):
            return _Note(**note)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return _Note()


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
