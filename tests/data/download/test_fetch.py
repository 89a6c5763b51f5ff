"""Downloads against a real server on loopback: every fault is one sentence, and what was fetched is kept."""

import bz2
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import genuine
import pytest
from scripted_server import (
    Behaviour,
    Handler,
    Scripted,
    autoindex,
    resets,
    serving,
    silent,
    stalls,
    status,
    whole,
)

from tltool.data.adapters import alexandria
from tltool.data.download.fetch import Progress, fetch
from tltool.data.download.http import Limits, local, shown
from tltool.data.download.listing import folder, listing, spoken
from tltool.data.download.receipt import receipt
from tltool.errors import DataError, ResourceError, TltoolError

NOISE = hashlib.shake_256(b"crystals").hexdigest(3000)
with tempfile.TemporaryDirectory() as _folder:
    DATA = genuine.alexandria(Path(_folder) / "entries.json.bz2").read_bytes()
OTHER = bz2.compress(json.dumps([{"noise": NOISE[::-1]}]).encode())
# As long as DATA and otherwise other bytes: nothing but the ETag tells them apart.
OLD = DATA[:3] + DATA[:2:-1]
SHA = hashlib.sha256(DATA).hexdigest()
TAG = '"5f3-1a"'
QUICK = Limits(connect=2.0, stall=0.2, attempts=3, pause=0.01, longest_pause=2.0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("TLTOOL_OFFLINE", raising=False)
    with serving() as scripted:
        yield scripted


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "dumps" / "alexandria_00000.json.bz2"


def get(
    address: str, target: Path, sha256: str | None = None, limits: Limits = QUICK, said: list[str] | None = None
) -> Path:
    say = (lambda _: None) if said is None else said.append
    return fetch(address, target, sha256=sha256, limits=limits, say=say, progress=lambda _: None)


def get_all(
    address: str, target: Path, pattern: str = "alexandria_*.json.bz2", watch: Callable[[Progress], None] | None = None
) -> list[Path]:
    watch = watch or (lambda _: None)
    return folder(address, pattern, target, sha256={}, limits=QUICK, say=lambda _: None, progress=watch)


def refused(
    address: str, target: Path, reason: str, kind: type[TltoolError] = DataError, sha256: str | None = None
) -> None:
    """One sentence: what file, why, from where, and where to put it."""
    with pytest.raises(kind, match=reason) as caught:
        get(address, target, sha256)
    message = str(caught.value)
    assert target.name in message
    assert address in message or kind is ResourceError
    assert str(target) in message
    assert message.endswith(".")
    assert not re.search(r"[.!?] [A-Z]", message)
    assert "\n" not in message


def names_in(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_a_file_and_what_is_recorded_of_it(server: Scripted, target: Path) -> None:
    address = server.at("/a.json.bz2", whole(DATA, etag=TAG))
    steps: list[Progress] = []
    assert fetch(address, target, sha256=SHA, limits=QUICK, say=print, progress=steps.append) == target
    assert target.read_bytes() == DATA
    assert steps[-1] == Progress(target.name, len(DATA), len(DATA), 1, 1, len(DATA))
    assert names_in(target.parent) == {target.name, f"{target.name}.sha256"}
    known = receipt(target)
    assert known is not None
    assert (known.sha256, known.size, known.etag, known.address) == (SHA, len(DATA), TAG, address)
    assert (target.parent / f"{target.name}.sha256").read_text().splitlines()[1] == f"{SHA}  {target.name}"
    assert server.asked["/a.json.bz2"][0]["accept-encoding"] == "identity"
    get(address, target)
    assert len(server.asked["/a.json.bz2"]) == 1


def test_genuine_entries_come_through(server: Scripted, target: Path) -> None:
    server.at("/pbe/", autoindex(target.name))
    server.at(f"/pbe/{target.name}", resets(DATA, 1000, etag=TAG), whole(DATA, etag=TAG))
    get_all(server.address + "/pbe/", target.parent)
    assert len(list(alexandria.read(target.parent, pattern="alexandria_*.json.bz2", min_elements=1))) == 10


@pytest.mark.parametrize(
    "broken",
    [whole(DATA, send=1000, etag=TAG), resets(DATA, 1000, etag=TAG), stalls(DATA, 1000, etag=TAG)],
    ids=["truncated", "reset", "stalled"],
)
def test_goes_on_where_it_stopped(server: Scripted, target: Path, broken: Behaviour) -> None:
    said: list[str] = []
    address = server.at("/a", broken, whole(DATA, etag=TAG))
    get(address, target, SHA, said=said)
    assert target.read_bytes() == DATA
    first, second = server.asked["/a"]
    assert "range" not in first
    # A reset may overtake bytes under way, so that fewer than were sent have arrived.
    assert 0 < int(second["range"].removeprefix("bytes=").removesuffix("-")) <= 1000
    assert second["if-range"] == TAG
    assert len(said) == 1
    assert "trying again in" in said[0]


def test_a_later_run_goes_on_and_a_date_guards_as_well(server: Scripted, target: Path) -> None:
    date = formatdate(1e9, usegmt=True)
    headers = {"etag": 'W/"weak"', "last_modified": date}
    refused(
        server.at("/a", stalls(DATA, 1000, **headers), stalls(DATA, 0, **headers)),
        target,
        r"no data arrived for 0.2 s \(3 times in a row\) \(1,000 b",
    )
    assert not target.exists()
    get(server.at("/a", whole(DATA, **headers)), target, SHA)
    assert server.asked["/a"][-1]["range"] == "bytes=1000-"
    assert server.asked["/a"][-1]["if-range"] == date


def test_progress_that_is_made_is_no_failure(server: Scripted, target: Path) -> None:
    step = [whole(DATA, send=200, etag=TAG)]
    get(server.at("/a", *step), target, SHA)
    assert len(server.asked["/a"]) == -(-len(DATA) // 200)


@pytest.mark.parametrize("kind", ["changed", "changed, If-Range ignored", "no ranges", "no validator", "wrong place"])
def test_begins_anew_where_it_cannot_go_on(server: Scripted, target: Path, kind: str) -> None:
    def careless(to: Handler) -> None:
        begin = 1000 if kind == "changed, If-Range ignored" else 7
        span = f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}"
        to.head(206, content_range=span, content_length=len(DATA) - begin, etag='"new"' if begin == 1000 else TAG)
        to.wfile.write(DATA[begin:])

    first: dict[str, object] = {} if kind == "no validator" else {"etag": TAG}
    later = {
        "changed": [whole(DATA, etag='"new"')],
        "no ranges": [whole(DATA, ranges=False, etag=TAG)],
        "no validator": [whole(DATA)],
    }.get(kind, [careless, whole(DATA, etag='"new"')])
    get(server.at("/a", whole(OLD, send=1000, **first), *later), target, SHA)
    assert target.read_bytes() == DATA


def test_a_complete_part_is_not_asked_for_again(server: Scripted, target: Path) -> None:
    refused(server.at("/a", resets(DATA, 1000, etag=TAG), status(404)), target, "bytes are kept")
    part = target.with_name(target.name + ".part")
    part.write_bytes(DATA)
    before = len(server.asked["/a"])
    get(server.address + "/a", target, SHA)
    assert len(server.asked["/a"]) == before
    # The same where the size was not known: then the server says so.
    target.unlink()
    note = {"address": server.address + "/a", "etag": TAG, "modified": None, "size": None}
    part.with_name(part.name + ".json").write_text(json.dumps(note))
    part.write_bytes(DATA)
    get(server.at("/a", whole(DATA, etag=TAG)), target, SHA)
    assert target.read_bytes() == DATA
    assert len(server.asked["/a"]) == before + 1


def test_bytes_of_another_address_or_of_unknown_origin_are_not_continued(server: Scripted, target: Path) -> None:
    get_part = server.at("/other", whole(OLD, send=500, etag=TAG), status(404))
    refused(get_part, target, "500 bytes are kept")
    get(server.at("/a", whole(DATA, etag=TAG)), target, SHA)
    target.unlink()
    target.with_name(target.name + ".part").write_bytes(b"BZh")
    target.with_name(target.name + ".part.json").write_text('{"address":')
    get(server.address + "/a", target, SHA)
    assert "range" not in server.asked["/a"][-1]


def test_answers_may_hold_less_than_the_rest(server: Scripted, target: Path) -> None:
    def some(to: Handler) -> None:
        begin = int(to.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        end = min(begin + 1000, len(DATA))
        to.head(206, content_range=f"bytes {begin}-{end - 1}/{len(DATA)}", content_length=end - begin, etag=TAG)
        to.wfile.write(DATA[begin:end])

    get(server.at("/a", whole(DATA, send=1000, etag=TAG), some), target, SHA)
    assert target.read_bytes() == DATA


def test_chunked_bodies_have_an_end(server: Scripted, target: Path) -> None:
    def chunked(end: bytes) -> Behaviour:
        def answer(to: Handler) -> None:
            to.protocol_version = "HTTP/1.1"
            to.head(200, transfer_encoding="chunked")
            to.wfile.write(b"%x\r\n%s\r\n" % (len(DATA), DATA) + end)

        return answer

    get(server.at("/a", chunked(b""), chunked(b"0\r\n\r\n")), target, SHA)
    assert target.read_bytes() == DATA
    assert len(server.asked["/a"]) == 2


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([status(404)], "the server answered 404 Not Found"),
        ([status(403)], "403 Forbidden"),
        ([status(204, b"")], "204 No Content"),
        ([status(200)], "the server sent a web page"),
        ([status(200, DATA)], "the server sent a web page"),
        ([status(200, b" \n<!DOCTYPE html>", content_type="application/octet-stream")], "the content is a web page"),
        ([status(200, b'{"error": "quota"}', content_type="application/json")], r"not a .bz2 file .*b'{\"error\"'"),
        ([status(200, b"", content_type="application/x-bzip2")], "the file is empty"),
        ([status(503)], r"503 Service Unavailable \(3 times in a row\)"),
        ([status(429, retry_after=3600)], "429 Too Many Requests and asks to wait 3600 s"),
        (
            [status(429, retry_after=formatdate(time.time() + 360_000, usegmt=True))],
            r"asks to wait 3(60000|59\d{3}) s",
        ),
        ([status(302, location="/a")], "redirected more than 10 times"),
        ([status(302, location="ftp://127.0.0.1/a")], "not valid .InvalidSchema"),
        (
            [whole(DATA, content_length=10**14)],
            "the file has 100,000,000,000,000 bytes, and the limit is 20,000,000,000",
        ),
        ([status(416, b"", content_range="bytes */0")], "does not continue"),
        ([resets(DATA, 0)], r"the connection was reset \(3 times"),
        ([silent], r"did not answer in time \(3 times"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    server: Scripted, target: Path, answers: list[Behaviour], reason: str
) -> None:
    refused(server.at("/a", *answers), target, reason)
    assert names_in(target.parent) == set()


@pytest.mark.parametrize(
    "page",
    [status(200), status(200, content_type="application/x-bzip2"), status(404), whole(DATA, content_length=10**14)],
)
def test_a_page_costs_nothing_that_was_downloaded(server: Scripted, target: Path, page: Behaviour) -> None:
    address = server.at("/a", whole(DATA, send=1000, etag=TAG), page)
    refused(address, target, r"1,000 bytes are kept")
    get(server.at("/a", whole(DATA, etag=TAG)), target, SHA)
    assert server.asked["/a"][-1]["range"] == "bytes=1000-"


def test_a_busy_server_is_left_alone_as_long_as_it_asks(server: Scripted, target: Path) -> None:
    began = time.perf_counter()
    get(server.at("/a", status(429, retry_after=1), status(503), whole(DATA)), target, SHA)
    assert 1.0 <= time.perf_counter() - began < 3.0


def test_a_body_without_a_length_is_bounded(server: Scripted, target: Path) -> None:
    def endless(to: Handler) -> None:
        to.head(200)
        while True:
            to.wfile.write(DATA)

    with pytest.raises(DataError, match="larger than the limit of 100,000 bytes"):
        get(server.at("/a", endless), target, limits=replace(QUICK, bytes=100_000))
    assert not target.exists()


def test_a_wrong_hash_replaces_nothing(server: Scripted, target: Path) -> None:
    address = server.at("/a", whole(OTHER, etag=TAG))
    refused(address, target, f"has sha256 {hashlib.sha256(OTHER).hexdigest()}, but data.sha256 says {SHA}", sha256=SHA)
    assert names_in(target.parent) == {f"{target.name}.wrong"}
    server.at("/a", whole(DATA, etag=TAG))
    get(address, target, SHA.upper())
    # What was recorded at the first use holds even after the file was deleted.
    target.unlink()
    server.at("/a", whole(OTHER, etag='"new"'))
    refused(address, target, "alexandria_00000.json.bz2.sha256, written at its first use, says")


def test_a_file_put_there_by_hand_is_recorded_and_held_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLTOOL_OFFLINE", "1")
    target, address = tmp_path / "a.json.bz2", "https://example.invalid/a.json.bz2"
    target.write_bytes(DATA)
    get(address, target)
    get(address, target, SHA)
    refused(address, target, r"but data\.sha256 says 0+; move the file away", sha256="0" * 64)
    times = target.stat()
    target.write_bytes(DATA[:-1] + b"?")
    refused(address, target, "written at its first use, says")
    # Same size and time: taken as unchanged, which is what makes later runs quick.
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    get(address, target)
    target.write_bytes(DATA)
    get(address, target)
    target.with_name(target.name + ".sha256").write_text("# {}\n")
    with pytest.raises(DataError, match="sha256 is damaged; delete it"):
        get(address, target)
    target.write_bytes(b"<html>")
    refused(address, target, "the content is a web page")


def test_no_network_and_no_proxy(server: Scripted, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        refused(f"{nobody}/a", target, r"no connection to the server \(is there a network\?\) \(3 times in a row")
        monkeypatch.setenv("HTTP_PROXY", nobody)
        refused("http://example.invalid/a", target, "the proxy refused the connection")
        monkeypatch.setenv("HTTP_PROXY", server.address)
        server.at("http://example.invalid/a", status(407))
        refused("http://example.invalid/a", target, "407 Proxy Authentication Required")
        server.at("http://example.invalid/a", whole(DATA))
        get("http://example.invalid/a", target, SHA)


def test_offline_and_unknown_schemes(server: Scripted, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("ftp://example.invalid/a", target, "not valid .InvalidSchema")
    refused("http://", target, "not valid .InvalidURL")
    monkeypatch.setenv("TLTOOL_OFFLINE", "1")
    address = server.at("/a", whole(DATA))
    refused(address, target, "TLTOOL_OFFLINE is set")
    with pytest.raises(DataError, match="TLTOOL_OFFLINE is set"):
        listing(server.address, "*", limits=QUICK, say=print)
    assert not server.asked
    monkeypatch.setenv("TLTOOL_OFFLINE", "0")
    get(address, target)


def test_passwords_stay_out_of_messages_and_files(server: Scripted, target: Path) -> None:
    server.at("/a", whole(DATA, send=1000, etag=TAG), status(404))
    secret = server.address.replace("http://", "http://me:p@ss@") + "/a"
    assert shown(secret) == server.address + "/a"
    with pytest.raises(DataError) as caught:
        get(secret, target)
    assert "p@ss" not in str(caught.value)
    assert not [path for path in target.parent.iterdir() if b"p@ss" in path.read_bytes()]


def test_disk_full(server: Scripted, target: Path) -> None:
    target.parent.mkdir()
    part = target.with_name(target.name + ".part")
    part.symlink_to("/dev/full")
    refused(server.at("/a", whole(DATA)), target, "cannot be written .No space left on device", ResourceError)

    part.unlink()
    with pytest.raises(ResourceError, match="needs 100,000,000,000,000,000 more bytes"):
        get(server.at("/a", whole(DATA, content_length=10**17)), target, limits=replace(QUICK, bytes=10**18))
    blocked = target.parent / "file"
    blocked.write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        get(server.address + "/a", blocked / "a.json.bz2")


def test_one_download_at_a_time(server: Scripted, target: Path) -> None:
    said: list[str] = []
    address = server.at("/a", stalls(DATA, 1000, etag=TAG), whole(DATA, etag=TAG))
    threads = [threading.Thread(target=get, args=(address, target, SHA, QUICK, said)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == DATA
    assert len(server.asked["/a"]) == 2
    assert any("another process is downloading" in line for line in said)


def test_killed_at_any_moment_it_goes_on(server: Scripted, target: Path) -> None:
    address = server.at("/a", stalls(DATA, 1000, etag=TAG), whole(DATA, etag=TAG))
    call = (
        "import sys; from pathlib import Path; from tltool.data.download.fetch import fetch; from "
        "tltool.data.download.http import "
        "Limits; fetch(sys.argv[1], Path(sys.argv[2]), sha256=None, limits=Limits(), say=print, progress=print)"
    )
    part = target.with_name(target.name + ".part")
    with subprocess.Popen([sys.executable, "-c", call, address, str(target)], stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 10
        while not (part.exists() and part.stat().st_size == 1000) and time.monotonic() < until:
            time.sleep(0.01)
        process.kill()
    assert not target.exists()
    get(address, target, SHA)
    assert server.asked["/a"][-1]["range"] == "bytes=1000-"


def test_a_mirror_on_this_machine(tmp_path: Path, target: Path) -> None:
    mirror = tmp_path / "the mirror"
    mirror.mkdir()
    (mirror / target.name).write_bytes(DATA)
    for address in ((mirror / target.name).as_uri(), str(mirror / target.name)):
        get(address, target, SHA)
        assert names_in(target.parent) == {target.name, f"{target.name}.sha256"}
        target.unlink()
    with pytest.raises(DataError, match="the limit is 100"):
        get(str(mirror / target.name), target, limits=replace(QUICK, bytes=100))
    refused(str(mirror / "none"), target, "there is no such file")
    (mirror / target.name).write_bytes(b"")
    refused(str(mirror / target.name), target, "the file is empty")
    assert local("~/data") == Path.home() / "data"
    assert local("https://example.invalid/") is None


LISTED = ["alexandria_00001.json.bz2", "alexandria_00000.json.bz2", "convex_hull.json.bz2", "x%20y%26.json.bz2"]


def test_listing(server: Scripted, tmp_path: Path) -> None:
    evil = ["../up.json.bz2", "/etc/a.json.bz2", "%2e%2e%2fup.json.bz2", "sub/", "..", "?C=N;O=D", "a%00.json.bz2"]
    evil += [
        "http://elsewhere.invalid/a.json.bz2",
        "a..b.json.bz2",
        "%2e",
        ". .",
        "a%5Cb.json.bz2",
        "alexandria_00000.json.bz2.part",
        "listing.json",
    ]
    address = server.at("/pbe/", autoindex(*evil, *LISTED, "./dotted.json.bz2"))
    for path in ("/pbe", "/pbe/"):
        found = listing(server.address + path, "alexandria_*.json.bz2", limits=QUICK, say=print)
        assert found == ["alexandria_00000.json.bz2", "alexandria_00001.json.bz2"]
    assert listing(address, r"^alexandria_\d+\.json\.bz2$", limits=QUICK, say=print) == found
    plain = ["convex_hull.json.bz2", "dotted.json.bz2", "x y&.json.bz2"]
    assert listing(address, "*", limits=QUICK, say=print) == [*found, *plain]
    with pytest.raises(DataError, match=f"^{address} lists 18 names, of which 0 match scan_"):
        listing(address, "scan_*", limits=QUICK, say=print)
    with pytest.raises(DataError, match=r"lists \d+ names, of which 2 match .* .the limit is 1\)"):
        listing(address, "alexandria_*", limits=replace(QUICK, files=1), say=print)
    with pytest.raises(DataError, match="not a regular expression"):
        listing(address, "^(", limits=QUICK, say=print)
    with pytest.raises(DataError, match=r"The list of files \* could not be downloaded from .*/none: .*404 Not Found"):
        listing(server.address + "/none", "*", limits=QUICK, say=print)
    for name in found:
        (tmp_path / name).write_bytes(DATA)
    (tmp_path / "alexandria_folder.json.bz2").mkdir()
    for place in (str(tmp_path), tmp_path.as_uri()):
        assert listing(place, "alexandria_*.json.bz2", limits=QUICK, say=print) == found
    with pytest.raises(DataError, match="No such file or directory"):
        listing(str(tmp_path / "none"), "*", limits=QUICK, say=print)


def test_a_page_cut_short_is_no_listing(server: Scripted) -> None:
    page = b'<a href="a.json.bz2">a</a><a href="b.json.bz2">b</a>'
    address = server.at("/pbe/", whole(page, send=30), whole(page))
    assert listing(address, "*", limits=QUICK, say=print) == ["a.json.bz2", "b.json.bz2"]
    server.at("/pbe/", whole(page * (1 << 19)))
    with pytest.raises(DataError, match="larger than 16 MiB"):
        listing(address, "*", limits=QUICK, say=print)


def test_a_folder_with_a_fault_in_between_and_later_offline(
    server: Scripted, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.at("/pbe/", autoindex(*LISTED))
    server.at("/pbe/alexandria_00000.json.bz2", whole(DATA, etag=TAG))
    server.at("/pbe/alexandria_00001.json.bz2", status(404))
    with pytest.raises(
        DataError,
        match=r"alexandria_00001.json.bz2 could not be downloaded from .*: the server "
        "answered 404",
    ):
        get_all(address, target.parent)
    assert not (target.parent / "listing.json").exists()
    server.at("/pbe/alexandria_00001.json.bz2", whole(OTHER, etag='"2"'))
    steps: list[Progress] = []
    paths = get_all(address, target.parent, watch=steps.append)
    assert [path.name for path in paths] == ["alexandria_00000.json.bz2", "alexandria_00001.json.bz2"]
    assert len(server.asked["/pbe/alexandria_00000.json.bz2"]) == 1
    assert steps[-1] == Progress(paths[1].name, len(OTHER), len(OTHER), 2, 2, len(DATA) + len(OTHER))
    record = json.loads((target.parent / "listing.json").read_text())
    assert record["address"] == address
    assert record["files"][0] == {"name": paths[0].name, "size": len(DATA), "etag": TAG, "sha256": SHA}
    monkeypatch.setenv("TLTOOL_OFFLINE", "1")
    assert get_all(address, target.parent) == paths
    paths[1].unlink()
    with pytest.raises(DataError, match="TLTOOL_OFFLINE is set"):
        get_all(address, target.parent)
    # The folder itself may stand in for the address, and nothing of ours in it is taken for data.
    assert [path.name for path in get_all(str(target.parent), target.parent.parent / "copy", "*")] == [paths[0].name]


def test_progress_is_said_from_time_to_time() -> None:
    said: list[str] = []
    watch = spoken(said.append, every=60.0)
    for done in (1_000_000, 2_000_000):
        watch(Progress("a", done, 2_000_000))
    spoken(said.append, every=0.0)(Progress("b", 1_500_000, None, 2, 58, 3_500_000))
    assert said == ["a: 2.0 of 2.0 MB", "b: 1.5 MB (file 2 of 58, 3.5 MB in total)"]
