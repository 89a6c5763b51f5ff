"""Fetch a query of the Materials Project into a folder: the frozen form that its adapter reads.

What was received stays, in ``pages/`` while it is not all there, so that the next run goes on. Where the server is
stands in ``MP_API_ENDPOINT``, as for mp-api.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tltool.data.download import http, receipt
from tltool.data.download.http import Again, Hopeless, Limits, Say
from tltool.data.materials_project import api_key, client, pages, snapshot
from tltool.errors import ConfigError, DataError

ENDPOINT = "https://api.materialsproject.org/"
_LIMITS = Limits()
# They leave nearly everything, and so do not count as a filter.
_WIDE = {"deprecated", "include_gnome"}
# mp-api asks for each value of these in turn, which makes several searches with a count of their own.
_ONE_VALUE = ("crystal_system", "spacegroup_number", "spacegroup_symbol")
_MOST_IDS = 100


def fetch(
    folder: Path, say: Say, limits: Limits = _LIMITS, /, *, query: dict[str, Any], fields: list[str], page_size: int
) -> None:
    """Make ``folder`` the frozen form of ``query``, unless it is that already.

    ``query`` holds keywords of ``mpr.materials.summary.search`` (null: not given), ``fields`` names of a SummaryDoc.
    Raises ConfigError for a query that cannot be asked or without an API key, DataError if not every row that the
    server counts came, or no answer did; what came is kept.
    """
    if (folder / snapshot.QUERY).is_file():
        return
    if page_size < 1 or not {"material_id", "structure"} <= set(fields):
        raise ConfigError("data.fetch needs a page_size of at least 1, and material_id and structure in its fields.")
    key = api_key.api_key()
    address = (os.environ.get("MP_API_ENDPOINT") or ENDPOINT).rstrip("/") + "/"
    wanted = {"query": _narrow(query), "fields": fields, "page_size": page_size, "endpoint": http.shown(address)}
    with receipt.disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with receipt.alone(folder / snapshot.QUERY, say):
        if (folder / snapshot.QUERY).is_file():
            return
        parts = folder / "pages"
        try:
            wanted["db_version"] = _version(address, limits, say)
            with _asking(address, key, wanted, limits, say) as ask:
                files = pages.received(parts, wanted, ask, page_size, say)
        except (Again, Hopeless) as error:
            kept = ", the pages that came are kept" if parts.is_dir() and any(parts.glob("*.jsonl")) else ""
            raise DataError(
                f"The Materials Project could not be had from {http.shown(address)}: {error}{kept}; run again later, "
                "or pass data.root=FOLDER with what was fetched."
            ) from None
        date = datetime.now(UTC).isoformat(timespec="seconds")
        count = snapshot.seal(folder, files, wanted | {"date": date, "client": client.release()})
        shutil.rmtree(parts)
        say(f"Materials Project: {count:,} rows of database {wanted['db_version']} are in {folder}.")


def _narrow(query: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query without what is null; raise ConfigError for one that cannot be fetched in pages."""
    given = client.checked(query)
    if not given.keys() - _WIDE:
        raise ConfigError(
            "data.fetch.query has no filter, which is the whole Materials Project; narrow it, for example with "
            "data.fetch.query.energy_above_hull=[0,0.1] or data.fetch.query.has_props=[elasticity]."
        )
    for name in _ONE_VALUE:
        if isinstance(given.get(name), list):
            raise ConfigError(f"data.fetch.query.{name}={given[name]} must be one value; fetch several one by one.")
    ids = given.get("material_ids")
    if isinstance(ids, list) and len(ids) > _MOST_IDS:
        raise ConfigError(
            f"data.fetch.query.material_ids has {len(ids)} ids, and at most {_MOST_IDS} can be asked for."
        )
    return given


def _version(address: str, limits: Limits, say: Say) -> str:
    try:
        return str(json.loads(http.text(f"{address}heartbeat", limits, say))["db_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise Hopeless("its heartbeat does not tell a db_version") from error


@contextmanager
def _asking(address: str, key: str, wanted: Mapping[str, Any], limits: Limits, say: Say) -> Iterator[pages.Ask]:
    """Yield what asks for one page, again where that helps; the client is made when the first page is asked for."""
    clients: list[Any] = []

    def ask(number: int) -> tuple[list[pages.Row], int]:
        def once() -> tuple[list[pages.Row], int]:
            if not clients:
                clients.append(client.connected(address, key, limits.stall))
            return client.page(clients[0], wanted["query"], wanted["fields"], number, wanted["page_size"])

        return http.patiently(once, lambda: 0, f"Materials Project, page {number}", limits, say)

    try:
        yield ask
    finally:
        for one in clients:
            one.session.close()
