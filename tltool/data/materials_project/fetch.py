"""Fetch a query of the Materials Project into a folder, in the form that its adapter reads.

Received pages stay in ``pages/`` until all are there, so the next run continues. ``MP_API_ENDPOINT`` sets the address
of the server, as for mp-api.
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
# They keep almost all rows, so they do not count as a filter.
_WIDE = {"deprecated", "include_gnome"}
# mp-api makes one search for each value of these, each with its own count.
_ONE_VALUE = ("crystal_system", "spacegroup_number", "spacegroup_symbol")
_MOST_IDS = 100


def fetch(
    folder: Path, say: Say, limits: Limits = _LIMITS, /, *, query: dict[str, Any], fields: list[str], page_size: int
) -> None:
    """Fetch ``query`` into ``folder``, unless the folder is complete already.

    ``query`` contains keywords of ``mpr.materials.summary.search`` (null: not given), ``fields`` names of a SummaryDoc.
    Raise ConfigError for an invalid query or without an API key. Raise DataError if the server does not answer, or does
    not send all rows that it counts; received pages are kept.
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
            kept = ", the received pages are kept" if parts.is_dir() and any(parts.glob("*.jsonl")) else ""
            raise DataError(
                f"The Materials Project could not be downloaded from {http.shown(address)}: {error}{kept}; run the "
                "command again later, or pass data.root=FOLDER with a folder that was fetched before."
            ) from None
        date = datetime.now(UTC).isoformat(timespec="seconds")
        count = snapshot.seal(folder, files, wanted | {"date": date, "client": client.release()})
        shutil.rmtree(parts)
        say(f"Materials Project: {count:,} rows of database {wanted['db_version']} are in {folder}.")


def _narrow(query: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query without null values; raise ConfigError for a query that cannot be fetched in pages."""
    given = client.checked(query)
    if not given.keys() - _WIDE:
        raise ConfigError(
            "data.fetch.query has no filter, so it asks for the whole Materials Project; add one, for example "
            "data.fetch.query.energy_above_hull=[0,0.1] or data.fetch.query.has_props=[elasticity]."
        )
    for name in _ONE_VALUE:
        if isinstance(given.get(name), list):
            raise ConfigError(
                f"data.fetch.query.{name}={given[name]} must be one value; fetch several values one by one."
            )
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
        raise Hopeless("its heartbeat gives no db_version") from error


@contextmanager
def _asking(address: str, key: str, wanted: Mapping[str, Any], limits: Limits, say: Say) -> Iterator[pages.Ask]:
    """Yield a function that requests one page, with retries; the client is made at the first request."""
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
