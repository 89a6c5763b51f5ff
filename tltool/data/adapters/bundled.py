"""Read the small real stores that ship with tltool, or any other store file."""

from collections.abc import Iterator
from pathlib import Path

from tltool.data import store
from tltool.data.record import Dropped, Record


def read(root: Path, /, *, file: str) -> Iterator[Record | Dropped]:
    """Yield the records of the store ``root/file``; raise DataError as ``store.load`` does."""
    records = store.load(root / file)
    for row in range(len(records)):
        yield records.record(row)
