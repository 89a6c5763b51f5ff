"""Rows of numbers of crystals, kept in the cache by what is in the crystal, so that they are computed once.

Each process writes files of its own, so that none waits for another. Sizes: n crystals, w numbers of each.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from tltool import interruption
from tltool.data import store
from tltool.data.record import Crystal, Floats
from tltool.errors import DataError

Row = Callable[[Crystal], Floats]
_SECONDS = 60.0
"""Between two files, so that a killed run loses no more."""


def digest(crystal: Crystal) -> bytes:
    """Return what changes with lattice, positions and elements, as a store keeps them."""
    parts = (crystal.lattice.astype("<f4"), crystal.frac.astype("<f4"), crystal.numbers.astype("<i8"))
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).digest()


def kept(folder: Path, width: int) -> dict[bytes, Floats]:
    """Return the rows (``width``,) in the files of ``folder`` by digest; a damaged file is deleted."""
    found: dict[bytes, Floats] = {}
    for path in sorted(folder.glob("*.h5")):
        try:
            arrays, _ = store.read_arrays(path)
            keys, rows = arrays["digest"], arrays["row"]
            if keys.shape != (len(rows), 32) or rows.shape[1:] != (width,):
                raise DataError("the arrays do not fit each other")
        except (DataError, KeyError):
            path.unlink(missing_ok=True)
            continue
        found |= {key.tobytes(): row.astype(np.float64) for key, row in zip(keys, rows, strict=True)}
    return found


def computed(crystals: Iterable[Crystal], make: Row, folder: Path) -> tuple[dict[bytes, Floats], dict[bytes, str]]:
    """Return the row that ``make`` computes of each crystal, and the reason of each that has none, by digest.

    Finished rows are written into ``folder`` every minute and at the end, also of an interrupted run.
    """
    made: dict[bytes, Floats] = {}
    failed: dict[bytes, str] = {}
    waiting: dict[bytes, Floats] = {}
    last = time.monotonic()
    try:
        for crystal in crystals:
            interruption.check()
            key = digest(crystal)
            try:
                made[key] = waiting[key] = make(crystal)
            except ValueError as error:
                failed[key] = str(error)
            if time.monotonic() - last > _SECONDS:
                _write(folder, waiting)
                waiting, last = {}, time.monotonic()
    finally:
        _write(folder, waiting)
    return made, failed


def _write(folder: Path, rows: Mapping[bytes, Floats]) -> None:
    if rows:
        keys = np.stack([np.frombuffer(key, dtype=np.uint8) for key in rows])
        arrays: dict[str, store.Array] = {"digest": keys, "row": np.stack(list(rows.values())).astype(np.float32)}
        store.write_arrays(folder / f"{uuid.uuid4().hex}.h5", arrays, {}, {})
