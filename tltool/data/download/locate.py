"""Find the files of a data YAML: bundled, given by the user, downloaded, or fetched from a service."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tltool import instantiate
from tltool.data.download import listing
from tltool.data.download.fetch import fetch
from tltool.data.download.http import Limits
from tltool.errors import DataError

BUNDLED = Path(__file__).parents[1] / "bundled"


def root(description: Mapping[str, Any], cache: Path, plugins: Iterable[str], say: Callable[[str], None]) -> Path:
    """Return the folder of files, or the one ``file``, of a data set.

    Without a ``root``, download it to ``cache`` if it is not there. Raise DataError if it is missing or cannot be
    downloaded.
    """
    if description["root"] == "bundled":
        return BUNDLED
    file, known = description.get("file"), description.get("sha256")
    if description["root"] is None:
        if description.get("fetch"):
            asked = json.dumps(description["fetch"], default=str, sort_keys=True)
            target = _folder(description["name"], asked, cache)
            instantiate.call(description["fetch"], target, say, plugins=plugins, place="fetch")
            return target
        address, pattern = description.get("address"), description.get("pattern")
        if not address or not (pattern or file):
            raise DataError(
                f"The data set {description['name']} has no address to download from; pass data.root=FOLDER."
            )
        target, watch = _folder(description["name"], address, cache), listing.spoken(say)
        if file:
            whence = listing.joined(address, file)
            return fetch(whence, target / file, sha256=known, limits=Limits(), say=say, progress=watch)
        listing.folder(address, str(pattern), target, sha256=known or {}, limits=Limits(), say=say, progress=watch)
        return target
    place = Path(description["root"]).expanduser()
    if not place.exists():
        raise DataError(f"data.root={place} does not exist; name the folder or file that holds the data set.")
    return _same(place / file if place.is_dir() else place, known) if file else place


def download(description: Mapping[str, Any], cache: Path) -> tuple[str, Path] | None:
    """Return the address of a data set that ``root`` would download, and the folder for it; None for another one."""
    if description["root"] is not None or description.get("fetch") or not description.get("address"):
        return None
    return str(description["address"]), _folder(description["name"], description["address"], cache)


def _folder(name: str, asked: str, cache: Path) -> Path:
    """Return the download folder of an address or query, so that two snapshots or queries are never mixed."""
    return cache / "downloads" / f"{name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


def _same(path: Path, sha256: str | None) -> Path:
    """Return ``path``; raise DataError if it cannot be read or its hash is not ``sha256``."""
    try:
        with path.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest() if sha256 else None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); put the file there or correct data.root."
        ) from error
    if sha256 and found != sha256.lower():
        raise DataError(
            f"{path} has sha256 {found}, but data.sha256 is {sha256}; download it again (data.root=null), or pass "
            "data.sha256=null to use this file."
        )
    return path
