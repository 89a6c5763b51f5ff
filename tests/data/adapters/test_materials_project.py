"""The frozen form of a Materials Project query: labels in our units, licences, Matbench's rules, and what is whole."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mp_rows import META, VERSION, freeze, rows
from support import QUOTIENT, config

from tltool.data import dataset
from tltool.data.adapters.materials_project import ELASTIC, read
from tltool.data.record import Dropped, Record
from tltool.errors import DataError
from tltool.quantities import shipped

TAKE: dict[str, Any] = {"licences": ["BY-C"], "deprecated": False, "theoretical": None, "hygiene": True}


def found(folder: Path, **keys: Any) -> list[Record | Dropped]:
    return list(read(folder, **TAKE | keys))


def one(folder: Path, row: dict[str, Any], **keys: Any) -> Record | Dropped:
    (item,) = found(freeze(folder, [row]), **keys)
    return item


def test_labels_in_our_units(tmp_path: Path) -> None:
    records = found(freeze(tmp_path, rows()))
    assert [r.id for r in records] == [f"mp-{k + 1}" for k in range(20)]
    record = records[3]
    assert isinstance(record, Record)
    n = len(record.crystal.numbers)
    assert n > 1
    volume = abs(np.linalg.det(record.crystal.lattice)) / n
    assert record.labels == pytest.approx(
        {
            "e_form": -1.53, "e_above_hull": 0.003, "energy": -5.25, "gap": 0.75, "volume": volume,
            "magnetisation": 2.0 / n, "K_VRH": 103.0, "G_VRH": 50.0, "elastic_anisotropy": 0.5, "poisson_ratio": 0.3,
            "eps_total": 12.0, "eps_electronic": 4.0, "refractive_index": 2.0, "piezoelectric_modulus": 0.75,
        }
    )  # fmt: skip
    assert set(record.labels) <= set(shipped())
    assert record.tags == {"mat_id": "mp-4", "db_version": VERSION, "licence": "BY-C", "origin": "experimental"}


def test_what_is_null_is_no_label(tmp_path: Path) -> None:
    row = rows(1)[0] | dict.fromkeys(["bulk_modulus", "e_total", "n", "band_gap", "theoretical", "builder_meta"])
    record = one(tmp_path, row | {"shear_modulus": {"vrh": None}, "total_magnetization": None}, licences=None)
    assert isinstance(record, Record)
    assert not {"K_VRH", "G_VRH", "eps_total", "refractive_index", "gap", "magnetisation"} & set(record.labels)
    assert set(record.tags) == {"mat_id", "db_version", "without"}


def test_licences(tmp_path: Path) -> None:
    documents = rows(4)
    documents[1]["builder_meta"] = META | {"license": "BY-NC", "batch_id": "gnome_r2scan_statics"}
    documents[2]["builder_meta"] = META | {"license": None}
    freeze(tmp_path, documents)
    first, second, third, fourth = found(tmp_path)
    assert (first.id, fourth.id) == ("mp-1", "mp-4")
    assert (second, third) == (Dropped("mp-2", "licence BY-NC"), Dropped("mp-3", "licence not given"))
    both = found(tmp_path, licences=["BY-C", "BY-NC"])
    assert isinstance(both[1], Record)
    assert (both[1].tags["licence"], both[1].tags["functional"]) == ("BY-NC", "r2SCAN")
    assert isinstance(both[2], Dropped)
    assert all(isinstance(item, Record) for item in found(tmp_path, licences=None))


def test_deprecated_and_theoretical(tmp_path: Path) -> None:
    documents = rows(4)
    documents[0]["deprecated"] = True
    freeze(tmp_path, documents)

    def kept(**keys: Any) -> list[str]:
        return [item.id for item in found(tmp_path, **keys) if isinstance(item, Record)]

    assert kept() == ["mp-2", "mp-3", "mp-4"]
    assert kept(deprecated=None) == ["mp-1", "mp-2", "mp-3", "mp-4"]
    assert kept(deprecated=True) == ["mp-1"]
    assert kept(theoretical=True) == ["mp-3"]
    assert kept(theoretical=False) == ["mp-2", "mp-4"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"formation_energy_per_atom": 0.16}, "over 150 meV"),
        ({"energy_above_hull": 0.151}, "over 150 meV"),
        ({"energy_above_hull": None}, "no energy above hull"),
        ({"shear_modulus": {"voigt": 51.0, "reuss": -1.0, "vrh": 25.0}}, "negative modulus"),
        ({"bulk_modulus": {"voigt": 100.0, "reuss": 99.0, "vrh": 101.0}}, "Reuss <= VRH <= Voigt"),
        ({"bulk_modulus": {"vrh": 101.0}}, "is missing"),
    ],
)
def test_moduli_that_break_a_rule_are_no_labels(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    row = rows(1)[0] | change
    record = one(tmp_path, row)
    assert isinstance(record, Record)
    assert not set(ELASTIC) & set(record.labels)
    assert reason in record.tags["without"]
    assert record.labels["gap"] == 0.0
    untouched = one(tmp_path, row, hygiene=False)
    assert isinstance(untouched, Record)
    assert "K_VRH" in untouched.labels
    assert "without" not in untouched.tags


def test_noble_gases_and_rows_without_moduli(tmp_path: Path) -> None:
    row = rows(1)[0]
    row["structure"]["sites"][0]["species"] = [{"element": "Xe", "occu": 1}]
    record = one(tmp_path, row)
    assert isinstance(record, Record)
    assert record.tags["without"] == "elastic labels: noble gas"
    nothing = dict.fromkeys(["bulk_modulus", "shear_modulus", "universal_anisotropy", "homogeneous_poisson"])
    assert "without" not in one(tmp_path, row | nothing).tags  # type: ignore[union-attr]


def test_structures_that_cannot_be_used(tmp_path: Path) -> None:
    documents = rows(3)
    documents[0]["structure"] = None
    documents[1]["structure"]["sites"][0]["species"] = [{"element": "Na", "occu": 0.5}]
    documents[2]["structure"] = {"sites": []}
    reasons = [item.reason for item in found(freeze(tmp_path, documents)) if isinstance(item, Dropped)]
    assert reasons == ["no structure", "partly occupied sites", "unusable structure"]


def test_a_folder_that_is_not_whole(tmp_path: Path) -> None:
    freeze(tmp_path, rows(4))
    file, query = tmp_path / "summary.jsonl", tmp_path / "query.json"
    text = file.read_text()
    file.write_text("".join(text.splitlines(keepends=True)[:3]))
    with pytest.raises(DataError, match=r"contains 3 of the 4 documents"):
        found(tmp_path)
    file.write_text(text.replace("-1.53", "-1.54"))
    with pytest.raises(DataError, match=r"has changed since it was fetched: its lines have sha256"):
        found(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=r"contains no summary\.jsonl\.gz or summary\.jsonl"):
        found(tmp_path)
    query.write_text(json.dumps({"count": 4}))
    with pytest.raises(DataError, match="lacks the count or the sha256"):
        found(tmp_path)
    query.unlink()
    with pytest.raises(DataError, match=r"no query\.json, so it may be incomplete"):
        found(tmp_path)
    freeze(tmp_path, rows(1))
    (tmp_path / "summary.jsonl.gz").write_bytes(gzip.compress(file.read_bytes())[:-40])
    with pytest.raises(DataError, match=r"summary\.jsonl\.gz is damaged"):
        found(tmp_path)


def test_lines_that_are_no_document(tmp_path: Path) -> None:
    freeze(tmp_path, [[1]])  # type: ignore[list-item]
    with pytest.raises(DataError, match="line 1: is not a JSON object"):
        found(tmp_path)


def test_a_data_set_says_what_went(tmp_path: Path) -> None:
    documents = rows(6)
    documents[0]["builder_meta"] = META | {"license": "BY-NC"}
    documents[1]["energy_above_hull"] = 0.2
    folder = freeze(tmp_path / "mp", documents)
    said: list[str] = []
    description = config("transfer", "target=mp_bulk_modulus", f"target.data.root={folder}")["target"]["data"]
    made = dataset.opened(description, QUOTIENT, dataset.Means(tmp_path / "cache", [], 1, said.append))
    assert made.store.ids == ["mp-2", "mp-3", "mp-4", "mp-5", "mp-6"]
    assert int(np.isnan(made.store.label("log10_K_VRH")).sum()) == 1
    assert json.loads(made.store.attributes["dropped"]) == {"licence BY-NC": 1}
    without = "elastic labels: formation energy or energy above hull over 150 meV/atom"
    assert json.loads(made.store.attributes["without"]) == {without: 1}
    assert f"  1 kept without {without} (first: mp-2)" in said
    assert made.store.tags["db_version"] == [VERSION] * 5
