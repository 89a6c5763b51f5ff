import bz2
import json
from pathlib import Path

import genuine
import numpy as np
import pytest

from tltool.data.adapters.alexandria import read
from tltool.data.formats import json_stream, label_columns
from tltool.data.record import Dropped, Record
from tltool.errors import DataError


def entry(name: str = "agm000000001", **changes: object) -> dict:
    """An entry with the fields of the real dumps."""
    site = {"species": [{"element": "Na", "occu": 1}], "abc": [0, 0, 0]}
    other = {"species": [{"element": "Cl", "occu": 1}], "abc": [0.5, 0.5, 0.5]}
    data = {"mat_id": name, "e_form": -2.0, "e_above_hull": 0.0, "energy_total": -6.8, "total_mag": -1e-4,
            "band_gap_ind": 5.0, "band_gap_dir": 5.1, "dos_ef": 0.0}  # fmt: skip
    structure = {"lattice": {"matrix": [[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]]}, "sites": [site, other]}
    return {"data": data, "structure": structure, "entry_id": None} | changes


def dump(folder: Path, text: str, name: str = "alexandria_000.json.bz2") -> Path:
    (folder / name).write_bytes(bz2.compress(text.encode()))
    return folder


@pytest.mark.parametrize("wrap", ["%s", '{"entries": %s}', '{"entries":\n%s, "more": 1}'])
def test_both_layouts(tmp_path: Path, wrap: str) -> None:
    entries = json.dumps([entry("a"), entry("b")], indent=1)
    found = list(read(dump(tmp_path, wrap % entries), pattern="alexandria_*.json.bz2", min_elements=1))
    assert [r.id for r in found] == ["a", "b"]
    record = found[0]
    assert isinstance(record, Record)
    assert record.labels["energy"] == pytest.approx(-3.4)
    assert record.labels["magnetisation"] == pytest.approx(-5e-5)
    assert record.labels["volume"] == pytest.approx(32.0)
    assert record.labels["e_form"] == -2.0
    assert record.tags == {"mat_id": "a"}


def test_elements_themselves_can_be_left_out(tmp_path: Path) -> None:
    alone = entry("a")
    alone["structure"]["sites"].pop()
    folder = dump(tmp_path, json.dumps([alone, entry("b")]))
    found = list(read(folder, pattern="*.bz2", min_elements=2))
    assert found[0] == Dropped("a", "fewer than 2 elements")
    assert [r.id for r in read(folder, pattern="*.bz2", min_elements=1) if isinstance(r, Record)] == ["a", "b"]
    assert isinstance(found[1], Record)


def test_bad_entries_are_counted(tmp_path: Path) -> None:
    mixed = entry("c")
    mixed["structure"]["sites"][0]["species"] = [{"element": "Na", "occu": 0.5}, {"element": "K", "occu": 0.5}]
    entries = [
        entry("a", structure=None),
        entry("b", data=None),
        mixed,
        entry("d", structure={"sites": []}),
        entry("e"),
    ]
    entries[-1]["data"]["e_form"] = float("nan")
    found = list(read(dump(tmp_path, json.dumps(entries)), pattern="*.bz2", min_elements=1))
    assert [type(r) for r in found] == [Dropped] * 4 + [Record]
    assert found[2] == Dropped("c", "partly occupied sites")
    assert "e_form" not in found[-1].labels  # type: ignore[union-attr]


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file alexandria"):
        list(read(tmp_path, pattern="alexandria_*.json.bz2", min_elements=1))
    dump(tmp_path, json.dumps([entry()])[:-20])
    with pytest.raises(DataError, match="is incomplete or not JSON"):
        list(read(tmp_path, pattern="*.bz2", min_elements=1))
    whole = bz2.compress(json.dumps([entry(str(k)) for k in range(500)]).encode())
    (tmp_path / "alexandria_000.json.bz2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="download or copy it again"):
        list(read(tmp_path, pattern="*.bz2", min_elements=1))


def test_entries_longer_than_a_piece_and_several_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "PIECE", 100)
    text = json.dumps([entry(str(k)) for k in range(20)])
    half = len(text) // 2
    two = bz2.compress(text[:half].encode()) + bz2.compress(text[half:].encode())
    (tmp_path / "alexandria_0.json.bz2").write_bytes(two)
    assert [r.id for r in read(tmp_path, pattern="*.bz2", min_elements=1)] == [str(k) for k in range(20)]


def test_genuine_entries(tmp_path: Path) -> None:
    """Written in the layout of the published entries; where such are at hand, they are read as well."""
    files = [genuine.alexandria(tmp_path / "sample.json.bz2"), genuine.PUBLISHED / "alexandria_sample.json.bz2"]
    for file in filter(Path.is_file, files):
        found = [label_columns.within(item) for item in read(file, pattern="*", min_elements=1)]
        assert len(found) == 10
        assert all(isinstance(r, Record) and "without" not in r.tags for r in found)
        labels = [r.labels for r in found if isinstance(r, Record)]
        assert all(2 < each["volume"] < 150 for each in labels)
        assert np.isfinite([each["e_form"] for each in labels]).all()
        assert all(-12 < each["energy"] < -2 for each in labels), "per atom"
