"""How large the files of a download are, before they are downloaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tltool.data.download import http, listing
from tltool.data.download.http import Hopeless, Limits, Say
from tltool.errors import DataError


class Listed(NamedTuple):
    """A file of a data set: its name, its size in bytes (None: the server does not say), and whether it is here."""

    name: str
    size: int | None
    here: bool


def listed(description: Mapping[str, Any], address: str, target: Path, limits: Limits, say: Say) -> list[Listed]:
    """Return the files that the ``description`` of a data set downloads from ``address`` to ``target``.

    The server is asked for the size of each file that is not there. Raise DataError if it cannot be asked.
    """
    file, pattern = description.get("file"), description.get("pattern")
    if not file and not pattern:
        raise DataError(f"The data set {description['name']} has no address to download from; pass data.root=FOLDER.")
    names = [str(file)] if file else listing.names(address, str(pattern), target, limits=limits, say=say)
    return [_one(name, listing.joined(address, name), target / name, limits, say) for name in names]


def _one(name: str, address: str, target: Path, limits: Limits, say: Say) -> Listed:
    if target.is_file():
        return Listed(name, target.stat().st_size, here=True)
    local = http.local(address)
    try:
        if local is not None:
            return Listed(name, local.stat().st_size, here=False)

        def once() -> int | None:
            with http.get(address, {}, limits) as response:
                return http.span(response)[1]

        return Listed(name, http.patiently(once, lambda: 0, name, limits, say), here=False)
    except (Hopeless, OSError) as error:
        raise DataError(
            f"The size of {name} could not be asked from {http.shown(address)}: {error}; run the command again later, "
            "or pass data.root=FOLDER."
        ) from error
