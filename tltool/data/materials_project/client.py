"""The only import of mp-api, the Materials Project's client: request one page of a search and interpret failures.

mp-api is the extra ``tltool[mp]`` and is imported when it is needed. Its own retries are switched off, because
``http.py`` alone decides how long and how often to wait. So a Retry-After of an hour becomes a message and not a wait
of an hour.
"""

import inspect
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from tltool.data.download import http
from tltool.data.download.http import Again, Hopeless
from tltool.data.materials_project import api_key
from tltool.errors import ConfigError, nearest

_NO_ANSWER = "there is no answer, or it is incomplete (is there a network?)"
_ORDER = "material_id"  # without an order, a row may be on two pages and another row on none
# Arguments that are set here, and arguments that a YAML cannot contain.
_OURS = {"self", "fields", "num_chunks", "chunk_size", "all_fields", "_page", "_sort_fields", "magnetic_ordering"}


def connected(endpoint: str, key: str, stall: float) -> Any:
    """Return mp-api's client of the summary collection; raise ConfigError without mp-api, Again without an answer."""
    rester = _class()
    with _quiet():
        try:
            client = rester(
                api_key=key, endpoint=endpoint, use_document_model=False, mute_progress_bars=True, timeout=stall
            )
        except Exception as error:
            if isinstance(error, OSError):
                raise Again(_NO_ANSWER) from None
            raise Hopeless(f"{release()} cannot read its heartbeat") from None
    for adapter in client.session.adapters.values():
        adapter.max_retries = adapter.max_retries.new(total=0, connect=0, read=0, status_forcelist=())
    return client


def checked(query: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``query`` without null values; raise ConfigError for a name that ``summary.search`` does not accept."""
    parameters = inspect.signature(_class().search).parameters.values()
    known = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - _OURS
    for name in query:
        if name not in known:
            raise ConfigError(f"data.fetch.query has no key {name!r}.{nearest(name, known)}")
    return {name: value for name, value in query.items() if value is not None}


def release() -> str:
    """Return name and version of the client."""
    return f"mp-api {version('mp-api')}"


def page(
    client: Any, query: Mapping[str, Any], fields: Iterable[str], number: int, size: int
) -> tuple[list[dict[str, Any]], int]:
    """Return the documents of page ``number``, counted from 1, and the server's count of all documents.

    Raise Again or Hopeless as ``http.py`` does, and ConfigError for a query that mp-api itself rejects.
    """
    answers: list[Any] = []

    def note(response: Any, *_: Any, **__: Any) -> None:
        answers.append(response)

    # mp-api returns neither the status nor the count of a search; a hook of its session reads both.
    client.session.hooks["response"] = [note]
    with _quiet():
        try:
            found = client.search(
                **query, fields=list(fields), chunk_size=size, num_chunks=1, _page=number, _sort_fields=_ORDER
            )
            total = answers[-1].json()["meta"]["total_doc"]
        except Exception as error:  # errors of requests are OSErrors; mp-api raises others, with these as context
            # No cause: the error of mp-api may contain the words of the server.
            if isinstance(error, OSError) or isinstance(error.__context__, OSError):
                raise Again(_NO_ANSWER) from None
            if not answers:
                text = " ".join(re.sub(r"\x1b\[\d+m", "", str(error)).split())[:300]
                raise ConfigError(f"mp-api rejects the query: {api_key.hidden(text, client.api_key)}") from None
            raise _failure(answers[-1], client.api_key) from None
    if type(total) is not int or not all(isinstance(row, dict) for row in found):
        raise Hopeless("the answer contains no documents with their count")
    return list(found), total


def _failure(response: Any, key: str) -> Again | Hopeless:
    """Return the error for an answer that mp-api could not use."""
    status = response.status_code
    reason = f"the server answered {status} {response.reason or ''}".rstrip()
    if http.passing(status):
        return Again(reason, http.retry_after(response.headers.get("Retry-After")))
    if status in (401, 403):
        return Hopeless(f"{reason}: it does not accept the API key, see MP_API_KEY")
    if status in (400, 422):
        text = " ".join(response.text.split())[:300]
        return Hopeless(f"{reason}: {api_key.hidden(text, key)}")
    return Hopeless(reason if status != 200 else f"{release()} cannot read the answer")


def _class() -> Any:
    try:
        with _quiet():
            from mp_api.client.routes.materials.summary import SummaryRester
    except ImportError as error:
        raise ConfigError(
            "Fetching from the Materials Project needs mp-api; install it with: pip install 'tltool[mp]', or pass "
            f"data.root=FOLDER with a folder that was fetched before ({error})."
        ) from error
    return SummaryRester


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of mp-api and what it imports; failures are errors here
        yield
