"""A downloaded file on disk: its recorded hash, the check against it, and safe writing.

Next to ``target`` is ``target.sha256``: a line that ``sha256sum -c`` reads, and a comment line with the size and time
of the file, so that it is not hashed again while they stay the same, and with the address and date of the download.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tltool import machine
from tltool.errors import DataError, ResourceError


@dataclass(frozen=True)
class Receipt:
    """What is recorded of a file: hash, size in bytes, time (ns), ETag, address, date of the first use."""

    sha256: str
    size: int
    mtime_ns: int
    etag: str | None
    address: str
    date: str


def beside(target: Path, suffix: str) -> Path:
    """Return the path of a file that goes with ``target``."""
    return target.with_name(target.name + suffix)


def receipt(target: Path) -> Receipt | None:
    """Return the record of ``target``, or None if there is none; raise DataError if the record is damaged."""
    record = beside(target, ".sha256")
    try:
        return Receipt(**json.loads(record.read_text(encoding="utf-8").splitlines()[0].removeprefix("#")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{record} is damaged; delete it to accept {target.name} as it is now.") from error


def check(target: Path, sha256: str | None, address: str) -> None:
    """Compare an existing file with ``sha256`` if given, otherwise with its record; make the record if there is none.

    Raise DataError if the hash differs.
    """
    old, facts = receipt(target), target.stat()
    known = old is not None and (old.size, old.mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    digest = old.sha256 if old and known else _hashed(target)
    if reason := mismatch(target, digest, sha256):
        raise DataError(f"{target} {reason}; move the file away to download it again from {address}.")
    if not known:
        # In a shared folder that is read-only, the file is hashed each time.
        with suppress(ResourceError):
            _record(target, digest, old.etag if old else None, old.address if old else address)


def settle(part: Path, target: Path, sha256: str | None, address: str, etag: str | None) -> None:
    """Make the complete ``part`` the file ``target``: hash, fsync, rename, record.

    Raise DataError if its hash is not ``sha256`` or the recorded one; the file is then kept as ``.wrong``.
    """
    with disk(target):
        digest = _hashed(part)
        beside(part, ".json").unlink(missing_ok=True)
        if reason := mismatch(target, digest, sha256):
            part.replace(beside(target, ".wrong"))
            raise DataError(
                f"{target.name} from {address} {reason} (saved as {beside(target, '.wrong')}); check the "
                f"address, or copy the right file to {target}."
            )
        part.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        with suppress(OSError):  # some file systems cannot sync a folder
            os.fsync(folder)
        os.close(folder)
    _record(target, digest, etag, address)


def mismatch(target: Path, digest: str, sha256: str | None) -> str | None:
    """Return how ``digest`` differs from the expected hash of ``target``; None if it does not."""
    old = receipt(target)
    want = sha256.lower() if sha256 else old.sha256 if old else digest
    whence = "data.sha256" if sha256 else f"{beside(target, '.sha256').name}, written at its first use,"
    return None if digest == want else f"has sha256 {digest}, but {whence} says {want}"


def written(path: Path, content: str) -> None:
    """Write a small text file completely or not at all; raise ResourceError if it cannot be written."""
    new = beside(path, f".{os.getpid()}.new")
    with disk(path):
        with new.open("w", encoding="utf-8") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        new.replace(path)


@contextmanager
def disk(target: Path) -> Iterator[None]:
    """Raise a ResourceError for any error of the disk."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{target} cannot be written ({error.strerror or error}); free disk space or choose another folder (the "
            "downloaded bytes are kept)."
        ) from error


@contextmanager
def alone(target: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time download into the folder of ``target``."""
    with disk(target):
        folder = os.open(target.parent, os.O_RDONLY)
    try:
        if machine.lock(folder) is False:  # None on a network file system without locks: the user runs one at a time
            say(f"{target.name}: another process is downloading to {target.parent}; waiting for it.")
            machine.lock(folder, wait=True)
        yield
    finally:
        os.close(folder)


def _record(target: Path, digest: str, etag: str | None, address: str) -> None:
    facts, date = target.stat(), datetime.now(UTC).isoformat(timespec="seconds")
    new = Receipt(digest, facts.st_size, facts.st_mtime_ns, etag, address, date)
    written(beside(target, ".sha256"), f"# {json.dumps(asdict(new))}\n{digest}  {target.name}\n")


def _hashed(path: Path) -> str:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
        return hashlib.file_digest(handle, "sha256").hexdigest()
