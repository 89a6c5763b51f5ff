"""The tables that the shipped YAMLs describe, where they are at hand: how many rows, and what one of them says."""

from pathlib import Path

import numpy as np
import pytest
from support import ROOT, config

from tltool.data.adapters import table
from tltool.data.record import Dropped, Record

SHARED = ROOT.parent / "shared" / "data"


def read(name: str, file: Path) -> tuple[dict[str, Record], list[str]]:
    """Read ``file`` as ``configs/data/NAME.yaml`` says; return the records by id and the reasons."""
    if not file.exists():
        pytest.skip("needs ../shared/data")
    keys = config("prepare", f"data={name}", f"data.root={file}")["data"]["adapter"]
    keys.pop("_target_")
    items = list(table.read(file, **keys))
    return {i.id: i for i in items if isinstance(i, Record)}, [i.reason for i in items if isinstance(i, Dropped)]


# The figures are those of the files; labels per quantity, what is left out, and one crystal with its label.
GENUINE: dict[str, tuple[str, dict[str, int], dict[str, int], tuple[str, str, float, int]]] = {
    "mp36k": ("mp36k.jsonl.xz", {"e_form": 36_733, "gap": 34_640}, {"e_form beyond 4.6 eV/atom": 4},
              ("mp-1000", "gap", 1.593, 2)),
    "gaps_pbe": ("gaps_pbe_hse_gllbsc.json.gz", {"gap": 5_837}, {"no label": 396}, ("mp-1000", "gap", 1.593, 2)),
    "gaps_hse": ("gaps_pbe_hse_gllbsc.json.gz", {"gap": 4_615}, {"no label": 1_618}, ("mp-10000", "gap", 0.0, 6)),
    "gaps_gllbsc": ("gaps_pbe_hse_gllbsc.json.gz", {"gap": 2_134}, {"no label": 4_099}, ("mp-1000", "gap", 3.37, 2)),
    "acwf_pbe": ("acwf_volumes_lda_pbe_pbesol_r2scan.json.gz", {"volume": 1_030}, {},
                 ("Ac-X2O", "volume", 26.798791018242085, 3)),
    "acwf_pbesol": ("acwf_volumes_lda_pbe_pbesol_r2scan.json.gz", {"volume": 1_030}, {},
                    ("Ac-X2O", "volume", 25.232536608083095, 3)),
    "alexandria_phonon": ("alexandria_phonon_dos_dsa.json.gz",
                          {"debye_temperature": 7_220, "omega_log": 7_220, "electron_phonon_coupling": 7_220,
                           "critical_temperature": 7_220, "dos_ef": 7_220}, {},
                          ("agm003769282", "dos_ef", 9.067489 / 8, 8)),
    "expt_gap": ("expt_gap_with_mp_structures.json.gz", {"gap": 2_451}, {}, ("0", "gap", 0.0, 84)),
}  # fmt: skip


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_tables(name: str) -> None:
    file, labels, reasons, (one, quantity, value, n_sites) = GENUINE[name]
    records, dropped = read(name, SHARED / file)
    found = [label for record in records.values() for label in record.labels]
    assert {label: found.count(label) for label in labels} == labels
    assert {reason: dropped.count(reason) for reason in dropped} == reasons
    assert records[one].labels[quantity] == pytest.approx(value)
    assert len(records[one].crystal.numbers) == n_sites
    assert all(record.tags == {"mat_id": record.id} for record in records.values())


def test_volumes_are_per_atom_as_the_crystals_are() -> None:
    for record in read("acwf_pbe", SHARED / GENUINE["acwf_pbe"][0])[0].values():
        per_atom = abs(np.linalg.det(record.crystal.lattice)) / len(record.crystal.numbers)
        assert record.labels["volume"] == pytest.approx(per_atom, rel=1e-9)


def test_the_units_of_superconductivity() -> None:
    """The critical temperature follows from lambda and omega_log by Allen and Dynes, mu* = 0.1, if both are kelvin."""
    records, _ = read("alexandria_phonon", SHARED / GENUINE["alexandria_phonon"][0])
    labels = [record.labels for record in records.values() if record.labels["critical_temperature"] > 2]
    coupling = np.array([each["electron_phonon_coupling"] for each in labels])
    by_formula = np.exp(-1.04 * (1 + coupling) / (coupling - 0.1 * (1 + 0.62 * coupling))) / 1.2
    by_formula *= [each["omega_log"] for each in labels]
    ratio = np.array([each["critical_temperature"] for each in labels]) / by_formula
    assert 1.0 < np.median(ratio) < 1.1
