"""Downloaded pages of a Materials Project query: one file each, kept until all rows are there.

``state.json`` in the same folder records their query and database, and how many rows the server counts. Pages of
another query or database are requested again.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from math import ceil
from pathlib import Path
from typing import Any

from tltool.data.download import receipt
from tltool.data.download.http import Say
from tltool.errors import DataError

Row = dict[str, Any]
Ask = Callable[[int], tuple[list[Row], int]]
_STATE = "state.json"
_EVERY = 10.0  # seconds


def received(folder: Path, wanted: Mapping[str, Any], ask: Ask, size: int, say: Say) -> list[Path]:
    """Return the files of all pages of ``wanted``, with ``size`` rows each; request the missing ones.

    ``ask`` returns the rows of a page, counted from 1, and the server's count of all rows. Raise DataError if a page
    lacks rows, if the count changes, or if a row was sent twice.
    """
    total = _resumed(folder, wanted, say)
    number, files, said = 1, [folder / "00001.jsonl"], time.monotonic()
    while True:
        if total is None or not files[-1].is_file():
            rows, found = ask(number)
            if total is None:
                total = found
                receipt.written(folder / _STATE, json.dumps(dict(wanted) | {"count": total}))
            _whole(folder, number, len(rows), found, total, size)
            receipt.written(files[-1], "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
            if time.monotonic() - said > _EVERY:
                said = time.monotonic()
                say(f"Materials Project: {number * size:,} of {total:,} rows.")
        if number >= ceil(total / size):
            break
        number += 1
        files.append(folder / f"{number:05}.jsonl")
    _distinct(folder, files, total)
    return files


def _resumed(folder: Path, wanted: Mapping[str, Any], say: Say) -> int | None:
    """Return the recorded count of the pages that exist, or None without pages; delete pages of another query."""
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        count = int(state.pop("count"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        state, count = None, 0
    if state == dict(wanted):
        say(f"Materials Project: continuing, {_pages(folder)} pages are there.")
        return count
    if state is not None:
        say("Materials Project: its database has changed since the pages in the folder were fetched; starting again.")
    with receipt.disk(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return None


def _whole(folder: Path, number: int, rows: int, found: int, total: int, size: int) -> None:
    """Raise DataError unless page ``number`` of ``total`` rows has the expected number of ``rows``."""
    if not total:
        shutil.rmtree(folder)
        raise DataError("No row of the Materials Project matches data.fetch.query; widen it.")
    if found != total:
        shutil.rmtree(folder)
        raise DataError(
            f"The Materials Project counted {total:,} rows at first and {found:,} on page {number}, so its "
            "database has changed meanwhile; run again, which starts from the first page."
        )
    due = min(size, total - (number - 1) * size)
    if rows != due:
        got = (number - 1) * size + rows
        raise DataError(
            f"The Materials Project sent {got:,} of the {total:,} rows that it counts: page {number} has "
            f"{rows:,} rows, but {due:,} are expected; run again, the pages before it are kept."
        )


def _distinct(folder: Path, files: list[Path], total: int) -> None:
    """Raise DataError unless the rows of all pages have as many different ids as the server counts."""
    ids: set[str] = set()
    for path in files:
        with path.open(encoding="utf-8") as lines:
            ids.update(json.loads(line).get("material_id") for line in lines)
    if len(ids) != total:
        shutil.rmtree(folder)
        raise DataError(
            f"The Materials Project sent {len(ids):,} different rows of the {total:,} that it counts, some of them "
            "twice; run again, which starts from the first page."
        )


def _pages(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.jsonl"))
