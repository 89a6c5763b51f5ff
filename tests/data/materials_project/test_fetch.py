"""Fetching from the Materials Project: mp-api against a real server on loopback that answers as its API does."""

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from commands import run
from mp_rows import VERSION, rows
from scripted_server import Behaviour, Handler, Scripted, resets, serving, status, whole
from support import config

from tltool.data.adapters.materials_project import read
from tltool.data.download.http import Limits
from tltool.data.materials_project import pages, snapshot
from tltool.data.materials_project.fetch import fetch
from tltool.errors import ConfigError, DataError, TltoolError

KEY = "abcdefghijklmnopqrstuvwxyz012345"
QUICK = Limits(connect=2.0, stall=2.0, attempts=3, pause=0.01, longest_pause=2.0)
# mp-api looks through all names it knows for each field of each page, which takes its time.
FEW = ("material_id", "structure")
SUMMARY = "/materials/summary/"
BEAT = {"status": "OK", "version": "0.87.3", "db_version": VERSION, "access_controlled_batch_ids": []}
# Set before mp-api is imported, and only in the CLI's own process.
PROXIES = {name: "" for word in ("http_proxy", "https_proxy", "all_proxy") for name in (word, word.upper())}


def says(content: Any, code: int = 200) -> Behaviour:
    return status(code, json.dumps(content).encode(), content_type="application/json")


def summary(documents: list[dict[str, Any]], total: int | None = None) -> Behaviour:
    """Answer as api.materialsproject.org does: by key, with the fields that are asked for, a page at a time."""

    def answer(to: Handler) -> None:
        if to.headers.get("x-api-key") != KEY:
            return says({"message": "Invalid authentication credentials"}, 401)(to)
        asked = {name: values[0] for name, values in parse_qs(urlsplit(to.path).query).items()}
        page, size = int(asked["_page"]), int(asked["_per_page"])
        order = sorted(documents, key=lambda row: row[asked["_sort_fields"]])
        part = order[(page - 1) * size : page * size]
        fields = asked["_fields"].split(",")
        data = [{name: row[name] for name in fields} for row in part]
        meta = {"api_version": "0.87.3", "total_doc": len(documents) if total is None else total}
        return says({"data": data, "meta": meta})(to)

    return answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    for name in (*PROXIES, "no_proxy", "NO_PROXY", "TLTOOL_OFFLINE", "MP_API_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with serving() as scripted:
        scripted.at("/heartbeat", says(BEAT))
        monkeypatch.setenv("MP_API_ENDPOINT", scripted.address)
        monkeypatch.setenv("MP_API_KEY", KEY)
        yield scripted


@cache
def node() -> dict[str, Any]:
    """The ``fetch`` of data=mp."""
    return config("pretrain", "data=mp")["data"]["fetch"]  # type: ignore[no-any-return]


def get(folder: Path, said: list[str] | None = None, fields: tuple[str, ...] = FEW, **query: Any) -> list[dict]:
    """Fetch as data=mp does, but in pages of 6, and return the documents."""
    say = (lambda _: None) if said is None else said.append
    fetch(folder, say, QUICK, query=node()["query"] | query, fields=list(fields), page_size=6)
    return list(snapshot.documents(folder))


def refused(folder: Path, reason: str, kind: type[TltoolError] = DataError, **query: Any) -> None:
    with pytest.raises(kind, match=reason) as raised:
        get(folder, **query)
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (folder / "query.json").exists()


def pages_asked(server: Scripted) -> list[str]:
    return [parse_qs(urlsplit(path).query)["_page"][0] for path in server.asked if path.startswith(SUMMARY)]


def test_whole(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, summary(rows(20)))
    said: list[str] = []
    documents = get(tmp_path / "mp", said, tuple(node()["fields"]), has_props=["elasticity"])
    assert sorted(row["material_id"] for row in documents) == sorted(f"mp-{k + 1}" for k in range(20))
    assert documents[0] == rows(1)[0]
    assert pages_asked(server) == ["1", "2", "3", "4"]
    assert said[-1] == f"Materials Project: 20 rows of database {VERSION} are in {tmp_path / 'mp'}."

    # What is sent: the filters that are not null under the names of the REST interface, and no word of the key.
    (first,) = [path for path in server.asked if "_page=1" in path]
    sent = parse_qs(urlsplit(first).query)
    assert sent["energy_above_hull_max"] == ["0.1"]
    assert (sent["has_props"], sent["deprecated"]) == (["elasticity"], ["False"])
    assert sent["batch_id_not_eq"] == ["gnome_r2scan_statics"]
    assert not {"elements", "theoretical", "band_gap_min"} & set(sent)
    assert KEY not in first

    assert sorted(path.name for path in (tmp_path / "mp").iterdir()) == ["query.json", "summary.jsonl.gz"]
    note = snapshot.asked(tmp_path / "mp")
    assert (note["count"], note["db_version"]) == (20, VERSION)
    assert note["query"]["energy_above_hull"] == [0, 0.1]
    assert note["client"].startswith("mp-api ")
    assert note["date"].startswith("20")
    assert "structure" in note["fields"]

    # The server is not asked again, nor is a key needed.
    before = len(server.asked)
    get(tmp_path / "mp", has_props=["elasticity"])
    assert len(server.asked) == before
    keys = config("pretrain", "data=mp")["data"]["adapter"]
    keys.pop("_target_")
    assert len(list(read(tmp_path / "mp", **keys))) == 20


def test_the_same_rows_give_the_same_file(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, summary(rows(8)))
    for name in "ab":
        get(tmp_path / name)
    assert (tmp_path / "a" / "summary.jsonl.gz").read_bytes() == (tmp_path / "b" / "summary.jsonl.gz").read_bytes()


def test_fewer_rows_than_counted(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, summary(sorted(rows(20), key=lambda row: row["material_id"])[:10], total=20))
    refused(tmp_path, r"sent 10 of the 20 rows that it counts: page 2 has 4 rows, but 6 are expected; run again")
    with pytest.raises(DataError, match=r"no query\.json"):
        list(snapshot.documents(tmp_path))
    # The first page is kept; the next run asks for the second.
    server.asked.clear()
    server.at(SUMMARY, summary(rows(20)))
    said: list[str] = []
    assert len(get(tmp_path, said)) == 20
    assert pages_asked(server) == ["2", "3", "4"]
    assert said[0] == "Materials Project: continuing, 1 pages are there."


def test_a_row_that_came_twice(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, summary([*rows(7), rows(1)[0]]))
    refused(tmp_path, r"sent 7 different rows of the 8 that it counts, some of them twice")
    server.at(SUMMARY, summary(rows(8)))
    assert len(get(tmp_path)) == 8


def test_a_count_that_changes(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, summary(rows(20)), summary(rows(19)))
    refused(tmp_path, r"counted 20 rows at first and 19 on page 2")
    server.at(SUMMARY, summary(rows(19)))
    assert len(get(tmp_path)) == 19


def test_nothing_matches(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, summary([]))
    refused(tmp_path, "No row of the Materials Project matches")


@pytest.mark.parametrize("code", [401, 403])
def test_a_wrong_key(server: Scripted, tmp_path: Path, code: int) -> None:
    server.at(SUMMARY, says({"message": f"Invalid authentication credentials {KEY}"}, code))
    refused(tmp_path, rf"answered {code} .*: it does not accept the API key, see MP_API_KEY")
    assert len(pages_asked(server)) == 1


def test_a_missing_key_or_one_cut_short(server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymatgen.core.SETTINGS", {})
    monkeypatch.delenv("MP_API_KEY")
    refused(tmp_path / "mp", r"needs an API key; set it in the environment, as MP_API_KEY=\.\.\.", ConfigError)
    monkeypatch.setenv("MP_API_KEY", KEY[:-1])
    refused(tmp_path / "mp", "has 31 characters, but 32 are needed", ConfigError)
    assert not server.asked
    assert not (tmp_path / "mp").exists()
    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setattr("pymatgen.core.SETTINGS", {"PMG_MAPI_KEY": KEY})
    server.at(SUMMARY, summary(rows(2)))
    assert len(get(tmp_path / "mp")) == 2


def test_what_passes_by_itself(server: Scripted, tmp_path: Path) -> None:
    said: list[str] = []
    good = summary(rows(8))
    busy = status(429, b"{}", retry_after=0)
    server.at(SUMMARY, busy, status(503), resets(b"", 0), busy, good, whole(b'{"data": [', send=4), good)
    with pytest.raises(
        DataError, match=r"could not be downloaded from http.*3 times in a row.*; run the command again later"
    ):
        get(tmp_path, said)
    assert [line.split(": ")[1].split(";")[0] for line in said] == [
        "the server answered 429 Too Many Requests",
        "the server answered 503 Service Unavailable",
    ]
    assert len(get(tmp_path, said)) == 8
    assert "there is no answer, or it is incomplete" in said[-2]


def test_a_server_that_wants_to_be_left_alone(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, status(429, b"{}", retry_after=3600))
    refused(tmp_path, "429 Too Many Requests and asks to wait 3600 s")


def test_interrupted_and_resumed(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, summary(rows(20)), summary(rows(20)), status(500))
    refused(tmp_path, "500 .*, the received pages are kept; run the command again later")
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == ["00001.jsonl", "00002.jsonl", "state.json"]
    server.asked.clear()
    server.at(SUMMARY, summary(rows(20)))
    assert len(get(tmp_path)) == 20
    assert pages_asked(server) == ["3", "4"]


def test_another_database_starts_anew(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, summary(rows(20)), status(404))
    refused(tmp_path, "answered 404")
    server.at("/heartbeat", says(BEAT | {"db_version": "2026.01.01"}))
    server.at(SUMMARY, summary(rows(20)))
    server.asked.clear()
    said: list[str] = []
    assert len(get(tmp_path, said)) == 20
    assert "starting again" in said[0]
    assert pages_asked(server) == ["1", "2", "3", "4"]
    assert snapshot.asked(tmp_path)["db_version"] == "2026.01.01"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"energy_above_hull": None}, "has no filter, so it asks for the whole Materials Project"),
        ({"energy_abov_hull": [0, 1]}, r"no key 'energy_abov_hull'\. Did you mean 'energy_above_hull'"),
        ({"num_chunks": 1}, "no key 'num_chunks'"),
        ({"has_props": ["elastic"]}, "mp-api rejects the query: 'elastic' is not a valid property"),
        ({"energy_above_hull": [0]}, "mp-api rejects the query"),
        ({"spacegroup_number": [1, 2]}, "must be one value"),
        ({"material_ids": [f"mp-{n}" for n in range(101)]}, "101 ids, and at most 100"),
    ],
)
def test_what_cannot_be_asked(server: Scripted, tmp_path: Path, query: dict[str, Any], reason: str) -> None:
    refused(tmp_path, reason, ConfigError, **query)
    assert not pages_asked(server)


def test_fields(server: Scripted, tmp_path: Path) -> None:
    for fields, reason in ((["structure"], "material_id and structure"), (["material_id", "structure", "gap"], "gap")):
        with pytest.raises(ConfigError, match=reason):
            fetch(tmp_path, print, QUICK, query={"energy_above_hull": [0, 1]}, fields=fields, page_size=6)


def test_what_the_server_refuses(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, says({"detail": f"no such parameter ({KEY})"}, 422))
    refused(tmp_path, r"answered 422 .*no such parameter \(\*\*\*\)")
    server.at(SUMMARY, says({"data": [{}]}))
    refused(tmp_path, "mp-api .* cannot read the answer")
    server.at("/heartbeat", says({"status": "OK"}))
    refused(tmp_path, "heartbeat gives no db_version")


def test_no_network(tmp_path: Path, server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLTOOL_OFFLINE", "1")
    refused(tmp_path, "TLTOOL_OFFLINE is set.*pass data.root=FOLDER")
    assert not server.asked


def test_pages_are_asked_once(tmp_path: Path) -> None:
    documents = [{"material_id": f"mp-{n}"} for n in range(4)]
    parts = tmp_path / "pages"
    asked: list[int] = []

    def ask(number: int) -> tuple[list[dict[str, Any]], int]:
        asked.append(number)
        return documents[2 * number - 2 : 2 * number], 4

    for _ in range(2):
        files = pages.received(parts, {"db_version": "1"}, ask, 2, print)
        assert [path.name for path in files] == ["00001.jsonl", "00002.jsonl"]
    assert asked == [1, 2]


def test_the_key_is_found_in_no_file(server: Scripted, tmp_path: Path) -> None:
    server.at(SUMMARY, status(403), summary(rows(20)))
    env = PROXIES | {"TLTOOL_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    both = [run(tmp_path, "prepare", "data=mp", code=code, **env) for code in (DataError.code, 0)]
    said = "".join(done.stdout + done.stderr for done in both)
    assert "20 records kept" in said
    assert KEY not in said
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"environment.json", "config.yaml", "error.log", "query.json"} <= {path.name for path in files}
    for path in files:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert KEY.encode() not in data, path
