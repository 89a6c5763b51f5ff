"""The stores that ship are whole, sane, small, and say where they come from."""

from pathlib import Path

import numpy as np
import pytest

from tltool.data import store
from tltool.data.adapters import bundled
from tltool.data.record import Record
from tltool.errors import DataError
from tltool.quantities import quantity

BUNDLED = Path(store.__file__).parent / "bundled"
CONTENTS = {
    "demo.h5": (3938, {"e_form", "e_above_hull"}),
    "elastic.h5": (1181, {"K_VRH", "G_VRH", "elastic_anisotropy", "poisson_ratio"}),
    "dielectric.h5": (1056, {"refractive_index", "eps_electronic", "eps_total", "gap"}),
    "piezoelectric.h5": (941, {"piezoelectric_modulus"}),
}
RANGES = {
    "e_form": (-5, 3),
    "e_above_hull": (0, 4),
    "K_VRH": (1, 500),
    "G_VRH": (1, 600),
    "poisson_ratio": (-1, 0.5),
    "refractive_index": (1, 17),
    "eps_electronic": (1, 260),
    "eps_total": (1, 280),
    "gap": (0.1, 9),
    "piezoelectric_modulus": (0, 50),
}


def test_every_shipped_store_is_known_here() -> None:
    assert {path.name for path in BUNDLED.iterdir()} == CONTENTS.keys()


@pytest.mark.parametrize("file", CONTENTS)
def test_store_is_sane(file: str) -> None:
    n, names = CONTENTS[file]
    records = store.load(BUNDLED / file)
    assert len(records) == len(set(records.ids)) == n
    assert all(name.startswith("mp-") for name in records.ids)
    assert records.labels.keys() == names
    for name, values in records.labels.items():
        assert np.isfinite(values).all()
        low, high = RANGES.get(name, (-np.inf, np.inf))
        assert low <= values.min() <= values.max() <= high, f"{name} in {quantity(name).unit}"
    volume = np.linalg.det(records.lattice) / np.diff(records.first_site)
    assert (volume > 4).all(), "Å3/atom; a left-handed cell or a lost site would show here"
    assert (volume < 150).all()
    assert ((records.numbers >= 1) & (records.numbers <= 94)).all()


@pytest.mark.parametrize("file", CONTENTS)
def test_store_says_where_it_comes_from(file: str) -> None:
    facts = store.load(BUNDLED / file).attributes
    assert facts["name"] == file.removesuffix(".h5")
    assert facts["functional"] in ("PBE", "PBE(+U)")
    assert "CC BY 4.0" in facts["licence"]
    assert facts["citation"].startswith("@article{")
    assert "doi={10." in facts["citation"]
    assert facts["citation"].count("{") == facts["citation"].count("}")
    assert len(facts["sha256"]) == 64
    assert int(facts["kept"]) == CONTENTS[file][0]


def test_all_stores_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 3e6


@pytest.mark.parametrize("file", CONTENTS)
def test_saving_again_gives_the_same_bytes(file: str, tmp_path: Path) -> None:
    store.save(tmp_path / "again.h5", store.load(BUNDLED / file))
    assert (tmp_path / "again.h5").read_bytes() == (BUNDLED / file).read_bytes()


def test_adapter_yields_the_records_of_the_store() -> None:
    wanted = store.load(BUNDLED / "elastic.h5")
    found = list(bundled.read(BUNDLED, file="elastic.h5"))
    assert [record.id for record in found] == wanted.ids
    for row in (0, 500, 1180):
        record = found[row]
        assert isinstance(record, Record)
        assert record.labels["K_VRH"] == wanted.labels["K_VRH"][row]
        np.testing.assert_array_equal(record.crystal.frac, wanted.crystal(row).frac)
    with pytest.raises(DataError, match=r"none\.h5"):
        list(bundled.read(BUNDLED, file="none.h5"))
