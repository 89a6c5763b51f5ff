"""A real HTTP server on loopback that answers each request as a test has scripted it."""

import http.server
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Behaviour = Callable[["Handler"], None]


@dataclass
class Scripted:
    """What stands at which path: the behaviours of its next requests, the last one for all that follow.

    A path without a query is that of any query, unless it is scripted with one.
    """

    address: str = ""
    script: dict[str, list[Behaviour]] = field(default_factory=dict)
    asked: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))
    over: threading.Event = field(default_factory=threading.Event)

    def at(self, path: str, *behaviours: Behaviour) -> str:
        """Script ``path`` and return its address."""
        self.script[path] = list(behaviours)
        return self.address + path


class Handler(http.server.BaseHTTPRequestHandler):
    scripted: Scripted

    def do_GET(self) -> None:
        path = self.path
        self.scripted.asked[path].append({k.lower(): v for k, v in self.headers.items()})
        script = self.scripted.script
        behaviours = script.get(path) or script.get(path.partition("?")[0], [status(404)])
        (behaviours.pop(0) if len(behaviours) > 1 else behaviours[0])(self)

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in ({"connection": "close"} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Scripted]:
    scripted = Scripted()

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass  # clients hang up on purpose here

    server = Server(("127.0.0.1", 0), type("Handler", (Handler,), {"scripted": scripted}))
    scripted.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield scripted
    finally:
        scripted.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def whole(data: bytes, *, ranges: bool = True, send: int | None = None, **headers: object) -> Behaviour:
    """Answer as nginx does, If-Range and 416 included; ``send``: break off after so many bytes."""

    def answer(to: Handler) -> None:
        begin, asked = 0, to.headers.get("Range")
        same = to.headers.get("If-Range") in (headers.get("etag"), headers.get("last_modified"))
        if asked and ranges and same:
            begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(data):
                return to.head(416, content_range=f"bytes */{len(data)}", content_length=0)
            span = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            to.head(206, content_range=span, content_length=len(data) - begin, **headers)
        else:
            to.head(200, **{"content_length": len(data)} | headers)
        to.wfile.write(data[begin:][:send])
        return None

    return answer


def stalls(data: bytes, send: int, **headers: object) -> Behaviour:
    """Send so many bytes and then nothing more, with the connection open."""

    def answer(to: Handler) -> None:
        whole(data, send=send, **headers)(to)
        to.wfile.flush()
        to.scripted.over.wait(20)

    return answer


def silent(to: Handler) -> None:
    """Take the request and never answer."""
    to.scripted.over.wait(20)


def resets(data: bytes, send: int, **headers: object) -> Behaviour:
    """Send so many bytes and reset the connection (RST, not FIN); 0: before any header."""

    def answer(to: Handler) -> None:
        if send:
            whole(data, send=send, **headers)(to)
        to.wfile.flush()
        to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        to.connection.close()

    return answer


def status(code: int, body: bytes = b"<html>Sorry</html>", **headers: object) -> Behaviour:
    """Answer with a status and a page."""

    def answer(to: Handler) -> None:
        to.head(code, **{"content_type": "text/html", "content_length": len(body)} | headers)
        to.wfile.write(body)

    return answer


def autoindex(*names: str) -> Behaviour:
    """Answer with a directory page as nginx makes it."""
    links = "".join(f'<a href="{name}">{name[:40]}</a>   02-Jul-2025 10:00   61542382\n' for name in names)
    head = "<html>\n<head><title>Index of /</title></head>\n<body>\n<h1>Index of /</h1><hr><pre>"
    return status(200, f'{head}<a href="../">../</a>\n{links}</pre><hr></body>\n</html>\n'.encode())
