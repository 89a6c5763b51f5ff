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
    """Return what is recorded of ``target``, None where nothing is; raise DataError if the record is damaged."""
    record = beside(target, ".sha256")
    try:
        return Receipt(**json.loads(record.read_text(encoding="utf-8").splitlines()[0].removeprefix("#")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{record} is damaged; delete it to trust {target.name} as it is now.") from error


def check(target: Path, sha256: str | None, address: str) -> None:
    """Hold a file that is there to ``sha256``, or to what was recorded at its first use, which may be now.

    Raises DataError if it is another file.
    """
    old, facts = receipt(target), target.stat()
    known = old is not None and (old.size, old.mtime_ns) == (facts.st_size, facts.st_mtime_ns)
    digest = old.sha256 if old and known else _hashed(target)
    if reason := mismatch(target, digest, sha256):
        raise DataError(f"{target} {reason}; move it away to download it again from {address}.")
    if not known:
        # A shared folder that may only be read is as good, it is just hashed each time.
        with suppress(ResourceError):
            _record(target, digest, old.etag if old else None, old.address if old else address)


def settle(part: Path, target: Path, sha256: str | None, address: str, etag: str | None) -> None:
    """Make the complete ``part`` the file ``target``: hash, fsync, rename, record.

    Raises DataError if it has not the hash that is given, or else was recorded before; it is kept as ``.wrong``.
    """
    with disk(target):
        digest = _hashed(part)
        beside(part, ".json").unlink(missing_ok=True)
        if reason := mismatch(target, digest, sha256):
            part.replace(beside(target, ".wrong"))
            raise DataError(
                f"{target.name} from {address} {reason}; it is kept as {beside(target, '.wrong')}: check the address, "
                f"or put the right file at {target} by hand."
            )
        part.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        with suppress(OSError):  # not every file system can sync a folder
            os.fsync(folder)
        os.close(folder)
    _record(target, digest, etag, address)


def mismatch(target: Path, digest: str, sha256: str | None) -> str | None:
    """Say how ``digest`` is not the one expected of ``target``, or None."""
    old = receipt(target)
    want = sha256.lower() if sha256 else old.sha256 if old else digest
    whence = "given for it" if sha256 else f"recorded at its first use in {beside(target, '.sha256').name}"
    return None if digest == want else f"has sha256 {digest}, and {want} is {whence}"


def written(path: Path, content: str) -> None:
    """Write a small text file whole or not at all; raise ResourceError where that cannot be done."""
    new = beside(path, f".{os.getpid()}.new")
    with disk(path):
        with new.open("w", encoding="utf-8") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        new.replace(path)


@contextmanager
def disk(target: Path) -> Iterator[None]:
    """Turn failures to write into a ResourceError."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{target} cannot be written ({error.strerror or error}); make room or name another folder, what was "
            f"downloaded is kept."
        ) from error


@contextmanager
def alone(target: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time download into the folder of ``target``."""
    import fcntl

    with disk(target):
        folder = os.open(target.parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{target.name}: another process downloads into {target.parent}; waiting for it.")
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError:
            pass  # a network file system without locks: one process at a time is then up to the user
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
