"""One GET request over http(s) with retries; the only module that imports requests. It writes nothing to disk.

A failure that may pass (a reset, a stall, 429, 5xx) is raised as ``Again``, any other as ``Hopeless``. Their text is a
reason that can follow "X could not be downloaded from Y: ". Proxies are those of the environment.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import requests
from urllib3.exceptions import HTTPError, MaxRetryError, ReadTimeoutError

OFFLINE = "TLTOOL_OFFLINE"
Say = Callable[[str], None]
T = TypeVar("T")

_PIECE = 1 << 16
_PAGE = 1 << 24
_PASSING = (408, 425, 429)


class Again(Exception):
    """A failure that may pass; ``wait`` is the time in seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Hopeless(Exception):
    """A failure that a retry does not repair."""


@dataclass(frozen=True)
class Limits:
    """Limits of a download: bytes per file, files per listing, and times in seconds.

    ``connect`` and ``stall`` limit the wait for a connection and for the next byte. ``attempts`` is the number of
    failures in a row without a new byte. The pause after a failure starts at ``pause`` and doubles up to
    ``longest_pause``; a longer Retry-After of the server ends the download.
    """

    bytes: int = 20 * 10**9
    files: int = 10_000
    connect: float = 15.0
    stall: float = 60.0
    attempts: int = 6
    pause: float = 1.0
    longest_pause: float = 120.0


def local(address: str) -> Path | None:
    """Return the path of a ``file://`` address or of a plain path; None for any other address."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address):
        return Path(address).expanduser()
    parts = urlsplit(address)
    return Path(unquote(parts.path)) if parts.scheme.lower() == "file" else None


def shown(address: str) -> str:
    """Return ``address`` without user name and password, for messages and files."""
    return re.sub(r"(?<=://)[^/?#]*@", "", address)


@contextmanager
def get(address: str, headers: dict[str, str], limits: Limits) -> Iterator[requests.Response]:
    """Request ``address`` and yield the response (200, 206 or 416) before its body is read; raise Again or Hopeless."""
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise Hopeless(f"the network is not used because {OFFLINE} is set")
    with requests.Session() as session:
        session.max_redirects = 10
        with _asked(session, address, headers, limits) as response:
            status = f"the server answered {response.status_code} {response.reason or ''}".rstrip()
            if passing(response.status_code):
                raise Again(status, retry_after(response.headers.get("Retry-After")))
            if response.status_code not in (200, 206, 416):
                raise Hopeless(status)
            yield response


def _asked(session: requests.Session, address: str, headers: dict[str, str], limits: Limits) -> requests.Response:
    # A compressed body would have neither the length nor the sha256 of the file.
    wanted = {"User-Agent": "tltool", "Accept-Encoding": "identity"} | headers
    try:
        return session.get(address, headers=wanted, stream=True, timeout=(limits.connect, limits.stall))
    except requests.exceptions.ProxyError as error:
        raise Hopeless("the proxy refused the connection (see HTTP_PROXY, HTTPS_PROXY and NO_PROXY)") from error
    except requests.exceptions.SSLError as error:
        raise Hopeless("the server's certificate is not trusted (see REQUESTS_CA_BUNDLE)") from error
    except requests.TooManyRedirects as error:
        raise Hopeless(f"the server redirected more than {session.max_redirects} times") from error
    except requests.Timeout as error:
        raise Again("the server did not answer in time") from error
    except requests.ConnectionError as error:
        if error.args and isinstance(error.args[0], MaxRetryError):
            raise Again("there is no connection to the server (is there a network?)") from error
        raise Again("the connection was reset") from error
    except requests.RequestException as error:
        raise Hopeless(f"the address or the answer of the server is not valid ({type(error).__name__})") from error


def pieces(response: requests.Response, limits: Limits) -> Iterator[bytes]:
    """Yield the body as it arrives, at most 64 KiB at a time; raise Again if it stalls or ends early."""
    # read1 returns what has arrived; read would wait for a full piece, and a lost connection would lose part of it.
    read = getattr(response.raw, "read1", response.raw.read)
    length, got = count(response.headers.get("Content-Length")), 0
    try:
        while piece := read(_PIECE, decode_content=False):
            got += len(piece)
            yield piece
    except ReadTimeoutError as error:
        raise Again(f"no data arrived for {limits.stall:g} s") from error
    except HTTPError as error:
        raise Again("the connection ended before the file was complete") from error
    if length is not None and got < length:  # urllib3 1 does not check the length
        raise Again("the connection ended before the file was complete")


def text(address: str, limits: Limits, say: Say) -> str:
    """Return the page at ``address``; raise Hopeless if it cannot be downloaded or is larger than 16 MiB."""

    def once() -> str:
        page = bytearray()
        with get(address, {}, limits) as response:
            for piece in pieces(response, limits):
                page += piece
                if len(page) > _PAGE:
                    raise Hopeless(f"the page is larger than {_PAGE >> 20} MiB")
        return page.decode("utf-8", errors="replace")

    return patiently(once, lambda: 0, shown(address), limits, say)


def patiently(once: Callable[[], T], reached: Callable[[], int], name: str, limits: Limits, say: Say) -> T:
    """Call ``once`` until it does not raise Again, with growing pauses; raise Hopeless after too many failures.

    ``reached`` returns the number of received bytes. A failure after more bytes than ever before starts the count
    again, so that a large file can be downloaded over a poor connection.
    """
    failures, most = 0, reached()
    while True:
        try:
            return once()
        except Again as again:
            failures = 1 if reached() > most else failures + 1
            most = max(most, reached())
            pause = min(limits.pause * 2.0 ** (failures - 1), limits.longest_pause)
            if again.wait is not None and again.wait > limits.longest_pause:
                raise Hopeless(f"{again} and asks to wait {again.wait:.0f} s") from again
            if failures >= limits.attempts:
                raise Hopeless(f"{again} ({failures} times in a row)") from again
            pause = pause if again.wait is None else again.wait
            say(f"{name}: {again}; trying again in {pause:.1f} s (failure {failures} of {limits.attempts}).")
        time.sleep(pause)


def count(value: str | None) -> int | None:
    """Return the whole number in a header; None if it has none."""
    return int(value) if value and re.fullmatch(r"[0-9]{1,18}", value.strip()) else None


def span(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the first byte of the body of a 200, 206 or 416 and the size of the whole file; None where not stated."""
    if response.status_code == 200:
        return 0, count(response.headers.get("Content-Length"))
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    return (count(found[1]), count(found[2])) if found else (None, None)


def passing(status: int) -> bool:
    """Return whether a later request may succeed after this ``status``."""
    return status in _PASSING or status >= 500


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which has a number or a date; None if it has neither."""
    seconds = count(value)
    if seconds is not None or not value:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
