"""A frozen query: a folder with what a database answered, a JSON document per line, and with what was asked of it.

``summary.jsonl.gz`` (or ``summary.jsonl``) holds the documents; ``query.json`` what was asked, when, of which
``db_version``, and ``count`` and ``sha256`` of the lines as they are uncompressed. ``query.json`` is written last: a
folder that has it is complete.
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
    """Make ``folder`` the frozen form of ``note`` with the lines of ``pages``; return how many there are.

    Raises ResourceError where the disk is full or cannot be written.
    """
    target, digest, count = folder / FILES[0], hashlib.sha256(), 0
    new = receipt.beside(target, ".new")
    with receipt.disk(target):
        # Without a time and a name in its header the same lines give the same file.
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
    """Return what ``query.json`` says; raise DataError if ``folder`` has none, or one without count and sha256."""
    path = folder / QUERY
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} holds no {QUERY}, so that it is not known to be complete; fetch it again, or correct data.root."
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read, or is no JSON; fetch the folder again.") from error
    count, digest = (note.get("count"), note.get("sha256")) if isinstance(note, dict) else (None, None)
    if type(count) is not int or not isinstance(digest, str):
        raise DataError(f"{path} does not say the count and the sha256 of the lines; fetch the folder again.")
    return cast(dict[str, Any], note)


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the documents one by one, once count and sha256 are found to be those recorded.

    Raises DataError if a line is missing, changed, or no JSON object.
    """
    note = asked(folder)
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder} holds no {' or '.join(FILES)}; fetch it again, or correct data.root.")
    try:
        _check(path, note["count"], note["sha256"])
        with _opened(path) as lines:
            for n, line in enumerate(lines, start=1):
                document = json.loads(line)
                if not isinstance(document, dict):
                    raise DataError(f"{path}, line {n}: is no JSON object; write one document per line.")
                yield document
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged or cut short; fetch the folder again.") from error


def _check(path: Path, count: int, sha256: str) -> None:
    digest, found, last = hashlib.sha256(), 0, b"\n"
    with _opened(path) as lines:
        while piece := lines.read(_PIECE):
            digest.update(piece)
            found += piece.count(b"\n")
            last = piece
    found += not last.endswith(b"\n")
    if found != count:
        raise DataError(f"{path} holds {found:,} of the {count:,} documents that {QUERY} records; fetch it again.")
    if digest.hexdigest() != sha256.lower():
        raise DataError(
            f"{path} is not what was fetched: its lines have sha256 {digest.hexdigest()}, and {sha256} is recorded in "
            f"{QUERY}; fetch the folder again."
        )


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")
