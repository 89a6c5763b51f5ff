"""A saved query: a folder with the answers of a database, one JSON document per line, and a record of the query.

``summary.jsonl.gz`` (or ``summary.jsonl``) contains the documents. ``query.json`` records the query, its date, the
``db_version``, and ``count`` and ``sha256`` of the uncompressed lines. ``query.json`` is written last: a folder with
this file is complete.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from tltool.data.download import receipt
from tltool.errors import DataError

QUERY = "query.json"
FILES = ("summary.jsonl.gz", "summary.jsonl")
_PIECE = 1 << 20


def seal(folder: Path, pages: Iterable[Path], note: Mapping[str, Any]) -> int:
    """Write the lines of ``pages`` and ``note`` into ``folder``, so that it is complete; return the number of lines.

    Raise ResourceError if the disk is full or not writable.
    """
    target, digest, count = folder / FILES[0], hashlib.sha256(), 0
    new = receipt.beside(target, ".new")
    with receipt.disk(target):
        # Without time and name in the gzip header, the same lines give the same file.
        with new.open("wb") as plain, gzip.GzipFile("", "wb", 6, plain, mtime=0) as packed:
            for page in pages:
                with page.open("rb") as lines:
                    for line in lines:
                        packed.write(line)
                        digest.update(line)
                        count += 1
        with new.open("rb") as handle:
            os.fsync(handle.fileno())
        new.replace(target)
    facts = {"file": target.name, "count": count, "sha256": digest.hexdigest()}
    receipt.written(folder / QUERY, json.dumps(dict(note) | facts, indent=1) + "\n")
    return count


def asked(folder: Path) -> dict[str, Any]:
    """Return the content of ``query.json``; raise DataError if it is missing, or lacks count or sha256."""
    path = folder / QUERY
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} contains no {QUERY}, so it may be incomplete; fetch it again, or correct data.root."
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read or is not JSON; fetch the folder again.") from error
    count, digest = (note.get("count"), note.get("sha256")) if isinstance(note, dict) else (None, None)
    if type(count) is not int or not isinstance(digest, str):
        raise DataError(f"{path} lacks the count or the sha256 of the lines; fetch the folder again.")
    return cast(dict[str, Any], note)


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the documents one by one, after count and sha256 are checked.

    Raise DataError if a line is missing, changed, or not a JSON object.
    """
    note = asked(folder)
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder} contains no {' or '.join(FILES)}; fetch it again, or correct data.root.")
    try:
        _check(path, note["count"], note["sha256"])
        with _opened(path) as lines:
            for n, line in enumerate(lines, start=1):
                document = json.loads(line)
                if not isinstance(document, dict):
                    raise DataError(f"{path}, line {n}: is not a JSON object; write one document per line.")
                yield document
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged or incomplete; fetch the folder again.") from error


def _check(path: Path, count: int, sha256: str) -> None:
    digest, found, last = hashlib.sha256(), 0, b"\n"
    with _opened(path) as lines:
        while piece := lines.read(_PIECE):
            digest.update(piece)
            found += piece.count(b"\n")
            last = piece
    found += not last.endswith(b"\n")
    if found != count:
        raise DataError(f"{path} contains {found:,} of the {count:,} documents that {QUERY} records; fetch it again.")
    if digest.hexdigest() != sha256.lower():
        raise DataError(
            f"{path} has changed since it was fetched: its lines have sha256 {digest.hexdigest()}, but {sha256} "
            "is recorded in "
            f"{QUERY}; fetch the folder again."
        )


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")
