from pathlib import Path

import numpy as np
import pytest

from tltool.data import store
from tltool.data.formats import formulas
from tltool.data.record import Crystal, Record
from tltool.errors import DataError, ResourceError

CUBE = Crystal(4.0 * np.eye(3), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([55, 17]))


def records() -> list[Record]:
    one = Crystal(3.0 * np.eye(3), np.zeros((1, 3)), np.array([84]))
    return [
        Record("a", CUBE, {"K_VRH": 100.0}),
        Record("b", one, {"gap": 1.5, "K_VRH": float("nan")}, {"source": "here"}),
    ]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    store.save(tmp_path / "s.h5", store.gather(records(), {"name": "mine", "licence": "CC BY 4.0"}))
    back = store.load(tmp_path / "s.h5")
    assert back.ids == ["a", "b"]
    assert back.attributes == {"name": "mine", "licence": "CC BY 4.0"}
    np.testing.assert_array_equal(back.crystal(0).frac, CUBE.frac)
    np.testing.assert_array_equal(back.crystal(1).numbers, [84])
    assert back.record(1).labels == {"gap": 1.5}
    assert back.record(1).tags == {"source": "here"}
    assert back.tags["source"] == ["", "here"]
    np.testing.assert_array_equal(back.label("log10_K_VRH"), [2.0, np.nan])
    with pytest.raises(DataError, match="has no label 'volume'"):
        back.label("volume")


def test_formulas_go_in_and_come_out(tmp_path: Path) -> None:
    made = [Record(text, formulas.composition(text, ""), {"gap": 1.0}) for text in ("Fe0.7Ni0.3", "Al2O3", "NaCl")]
    store.save(tmp_path / "s.h5", store.gather(made, {}))
    back = store.load(tmp_path / "s.h5")
    for row, record in enumerate(made):
        np.testing.assert_array_equal(back.crystal(row).amounts, record.crystal.amounts)
        assert np.isnan(back.crystal(row).lattice).all()
    fewer = store.taken(back, np.array([2, 0]))
    np.testing.assert_array_equal(fewer.crystal(1).amounts, [0.7, 0.3])
    assert store.gather(records(), {}).amounts is None
    with pytest.raises(DataError, match="crystals and formulas without a structure"):
        store.gather([*made, *records()], {})


def test_bad_records() -> None:
    with pytest.raises(DataError, match="'a' occurs twice"):
        store.gather([records()[0], records()[0]], {})
    with pytest.raises(DataError, match="no usable record"):
        store.gather([], {"name": "mine"})


def test_a_damaged_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    store.save(path, store.gather(records(), {}))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        store.load(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="damaged"):
        store.load(path)
    with pytest.raises(DataError, match="no store"):
        store.load(tmp_path / "other.h5")


def test_every_flipped_byte_of_the_positions_is_noticed(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "s.h5"
    many = [r._replace(id=f"{k}{r.id}") for k in range(200) for r in records()]
    store.save(path, store.gather(many, {}))
    with h5py.File(path) as file:
        chunk = file["frac"].id.get_chunk_info(0)
        place = chunk.byte_offset + chunk.size // 2
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged"):
        store.load(path)


def test_an_unfinished_file_and_another_schema_are_refused(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "s.h5"
    store.save(path, store.gather(records(), {}))
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = 99
    with pytest.raises(DataError, match="schema 99"):
        store.load(path)
    with h5py.File(path, "a") as file:
        file.attrs["complete"] = False
    with pytest.raises(DataError, match="is incomplete"):
        store.load(path)


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ResourceError, match="Cannot write"):
        store.save(blocked / "s.h5", store.gather(records(), {}))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.save(tmp_path / "s.h5", store.gather(records(), {}))
    assert list(tmp_path.iterdir()) == []
