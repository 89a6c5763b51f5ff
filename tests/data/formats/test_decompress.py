"""Packed files as a bounded stream: what they hold, and what is refused."""

import bz2
import gzip
import lzma
from pathlib import Path

import pytest

from tltool.data.formats import decompress
from tltool.data.formats.decompress import Bounds
from tltool.errors import DataError

TEXT = b"crystal\n" * 5000
PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "plain": bytes}


@pytest.mark.parametrize("kind", PACKERS)
def test_first_bytes_say_what_a_file_is(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "table.json.gz"
    file.write_bytes(PACKERS[kind](TEXT))
    with decompress.opened(file) as stream:
        assert stream.read() == TEXT
    assert stream.closed


@pytest.mark.parametrize("kind", ["gz", "bz2"])
def test_several_streams_in_one_file(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "table"
    file.write_bytes(PACKERS[kind](TEXT) + PACKERS[kind](b"end"))
    with decompress.opened(file) as stream:
        assert stream.read() == TEXT + b"end"


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_cut_short_and_changed(tmp_path: Path, kind: str) -> None:
    packed = bytearray(PACKERS[kind](TEXT))
    file = tmp_path / "table"
    file.write_bytes(packed[:-9])
    with pytest.raises(DataError, match=r"table is damaged or incomplete .*again"), decompress.opened(file) as stream:
        stream.read()
    packed[len(packed) // 2] ^= 0xFF
    file.write_bytes(packed)
    with pytest.raises(DataError, match="table is damaged"), decompress.opened(file) as stream:
        stream.read()


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_bomb_is_left_before_it_is_unpacked(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "bomb"
    file.write_bytes(PACKERS[kind](bytes(30_000_000)))
    given: list[int] = []
    bounds = Bounds(ratio=100, free=1_000_000)

    def drain() -> None:
        with decompress.opened(file, bounds) as stream:
            given.extend(len(piece) for piece in iter(lambda: stream.read(100_000), b""))

    with pytest.raises(DataError, match="bomb has more than"):
        drain()
    most = max(bounds.free, 100 * file.stat().st_size)
    assert most - 200_000 < sum(given) <= most


def test_the_bound_in_all_holds_for_plain_files(tmp_path: Path) -> None:
    file = tmp_path / "long"
    file.write_bytes(bytes(3000))
    with pytest.raises(DataError, match="more than 2,999 bytes"), decompress.opened(file, Bounds(bytes=2999)) as stream:
        stream.read()
    with decompress.opened(file, Bounds(bytes=3000, free=0, ratio=1)) as stream:
        assert len(stream.read()) == 3000


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            decompress.opened(path)
