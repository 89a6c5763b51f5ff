"""What a record of several data sets in one knows of itself."""

import numpy as np

from tltool.data import origin, store
from tltool.data.origin import Mark
from tltool.data.record import Crystal, Record
from tltool.data.store import Store

CUBE = Crystal(3 * np.eye(3), np.zeros((1, 3)), np.array([29]))


def made(*tags: dict[str, str], functional: str = "") -> Store:
    records = [Record(f"r{n}", CUBE, {"gap": 1.0}, some) for n, some in enumerate(tags)]
    return store.gather(records, {"functional": functional} if functional else {})


def test_a_record_keeps_its_id_and_says_its_functional() -> None:
    plain = made({"mat_id": "mp-1"}, {}, {"functional": "r2SCAN"}, functional="PBE")
    assert not origin.is_of_several(plain)
    assert list(origin.functionals(plain)) == ["PBE", "PBE", "r2SCAN"]
    found = origin.marked(plain, Mark("mp", "PBE"))
    assert origin.is_of_several(found)
    assert list(found.ids) == ["mp:r0", "mp:r1", "mp:r2"]
    assert list(origin.own_ids(found)) == list(origin.own_ids(plain)) == ["r0", "r1", "r2"]
    assert list(origin.crystals(found)) == list(origin.crystals(plain)) == ["mp-1", "r1", "r2"]
    assert found.tags["functional"] == ["PBE", "PBE", "r2SCAN"]
    assert list(plain.ids) == ["r0", "r1", "r2"]


def test_nobody_says_it() -> None:
    assert list(origin.functionals(made({}, {}))) == ["", ""]
    assert list(origin.crystals(made({}, {}))) == ["r0", "r1"]
