"""List the files at an address and download all of them; the names come from the listing, never from the code."""

import html
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tltool.data.download import http, receipt
from tltool.data.download.fetch import Progress, Watch, fetch
from tltool.data.download.http import Hopeless, Limits, Say
from tltool.errors import DataError

RECORD = "listing.json"
_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"'?#]+)""", re.IGNORECASE)
_PLAIN = re.compile(r"[^/\\\x00-\x1f]{1,200}")
# Files that a download writes next to the data. A download folder may be the mirror of another download.
_OURS = re.compile(r"listing\.json|.*\.(part|part\.json|sha256|wrong|new)")


def listing(address: str, pattern: str, *, limits: Limits, say: Say) -> list[str]:
    """Return the sorted names of the files at ``address``, a directory page or a local folder, that match.

    ``pattern`` is a glob, or a regular expression if it begins with ``^``. Names that lead elsewhere (``/``, ``..``)
    are ignored. Raise DataError if the address cannot be read, or if no name or too many names match.
    """
    place = http.local(address)
    try:
        if place is None:
            links = _LINK.findall(http.text(address.rstrip("/") + "/", limits, say))
            found = {unquote(html.unescape(link)).removeprefix("./") for link in links}
        else:
            found = {path.name for path in place.iterdir() if path.is_file()}
        matches = re.compile(pattern).fullmatch if pattern.startswith("^") else lambda name: fnmatchcase(name, pattern)
    except (Hopeless, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"The list of files {pattern} could not be downloaded from {http.shown(address)}: {reason}; run the "
            "command again later, or put the files into a folder and pass data.root=FOLDER."
        ) from error
    except re.error as error:
        raise DataError(f"data.pattern={pattern} is not a regular expression ({error}); correct it.") from error
    plain = {name for name in found if _PLAIN.fullmatch(name) and name.strip(". ") and ".." not in name}
    names = sorted(name for name in plain if matches(name) and not _OURS.fullmatch(name))
    if not 0 < len(names) <= limits.files:
        raise DataError(
            f"{http.shown(address)} lists {len(found)} names, of which {len(names)} match {pattern} (the limit is "
            f"{limits.files}); correct the address or the pattern."
        )
    return names


def folder(
    address: str,
    pattern: str,
    target: Path,
    *,
    sha256: Mapping[str, str],
    limits: Limits,
    say: Say,
    progress: Watch,
) -> list[Path]:
    """Download every file at ``address`` that matches ``pattern`` into the folder ``target``; return their paths.

    The listing is recorded there in ``listing.json`` (name, size in bytes, ETag, sha256, date). Once all files are
    there, the network is not used again; delete ``listing.json`` to look for new files. ``sha256`` maps names to known
    hashes. Raise the errors of ``fetch`` and ``listing``; complete files are kept.
    """
    listed = names(address, pattern, target, limits=limits, say=say)
    here = sum((target / name).is_file() for name in listed)
    if here < len(listed):
        say(f"{http.shown(address)}: {len(listed)} files match {pattern}; {here} of them are already in {target}.")
    paths: list[Path] = []
    before = 0
    for n, name in enumerate(listed, start=1):

        def in_all(step: Progress, n: int = n, before: int = before) -> None:
            progress(step._replace(file=n, files=len(listed), in_all=before + step.done))

        one, known = joined(address, name), sha256.get(name)
        paths.append(fetch(one, target / name, sha256=known, limits=limits, say=say, progress=in_all))
        before += paths[-1].stat().st_size
    if not (target / RECORD).is_file() or here < len(listed):
        receipt.written(target / RECORD, json.dumps(_record(address, pattern, paths), indent=1))
    return paths


def names(address: str, pattern: str, target: Path, *, limits: Limits, say: Say) -> list[str]:
    """Return the names of the files of a download to ``target``: those recorded there, else those of the listing."""
    return _recorded(address, pattern, target) or listing(address, pattern, limits=limits, say=say)


def joined(address: str, name: str) -> str:
    """Return the address of the file ``name`` of the page or local folder ``address``."""
    local = http.local(address)
    return str(local / name) if local is not None else f"{address.rstrip('/')}/{quote(name)}"


def spoken(say: Say, every: float = 10.0) -> Watch:
    """Return a function that prints the progress of a download every so many seconds and after each file."""
    last = time.monotonic()

    def watch(step: Progress) -> None:
        nonlocal last
        if step.done == step.size or time.monotonic() - last >= every:
            last = time.monotonic()
            of = f" of {step.size / 1e6:,.1f}" if step.size else ""
            all_ = (
                f" (file {step.file} of {step.files}, {step.in_all / 1e6:,.1f} MB in total)" if step.files > 1 else ""
            )
            say(f"{step.name}: {step.done / 1e6:,.1f}{of} MB{all_}")

    return watch


def _record(address: str, pattern: str, paths: list[Path]) -> dict[str, Any]:
    files = []
    for path in paths:
        known = receipt.receipt(path)
        facts = {"etag": known.etag, "sha256": known.sha256} if known else {}
        files.append({"name": path.name, "size": path.stat().st_size} | facts)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"address": http.shown(address), "pattern": pattern, "date": date, "files": files}


def _recorded(address: str, pattern: str, target: Path) -> list[str] | None:
    """Return the names recorded in ``target``, None unless all these files are there."""
    try:
        record = json.loads((target / RECORD).read_text(encoding="utf-8"))
        same = (record["address"], record["pattern"]) == (http.shown(address), pattern)
        names = [str(file["name"]) for file in record["files"]]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return names if names and same and all((target / name).is_file() for name in names) else None
