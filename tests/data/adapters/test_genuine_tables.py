"""The tables that the shipped YAMLs describe: what becomes of each row, and what one of them says.

Each is written here in the layout of the published file; where a developer has that file, it is read as well.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import genuine
import numpy as np
import pytest
from support import config

from tltool.data.adapters import table
from tltool.data.formats import label_columns
from tltool.data.record import Dropped, Record

Rows = list[dict[str, Any]]


class Expected(NamedTuple):
    """Labels per quantity, counts of what is left out by reason, and one row with its label and number of sites."""

    labels: dict[str, int]
    reasons: dict[str, int]
    one: tuple[str, str, float, int]


def read(name: str, file: Path) -> tuple[dict[str, Record], list[str]]:
    """Read ``file`` as ``configs/data/NAME.yaml`` says; return the records by id and the reasons."""
    keys = config("prepare", f"data={name}", f"data.root={file}")["data"]["adapter"]
    keys.pop("_target_")
    items = [label_columns.within(item) for item in table.read(file, **keys)]
    return {i.id: i for i in items if isinstance(i, Record)}, [i.reason for i in items if isinstance(i, Dropped)]


def mp36k(place: Path) -> Path:
    rows: Rows = []
    for n, crystal in enumerate(genuine.smallest(8)):
        plain = {"lattice": crystal.lattice.tolist(), "species": [genuine.symbol(int(z)) for z in crystal.numbers],
                 "frac_coords": crystal.frac.tolist()}  # fmt: skip
        row = {"material_id": f"mp-{n}"} | plain | {"formation_energy_per_atom": -0.5 * n}
        rows.append(row | ({"gap_pbe": 0.25 * n} if n % 2 else {}))
    rows[6]["formation_energy_per_atom"], rows[7]["formation_energy_per_atom"] = -9.71653397, -13.56863074
    return genuine.json_lines(place, rows)


def gaps(place: Path) -> Path:
    keys = ["gap_pbe", "gap_hse", "gap_gllbsc"]
    values = [(1.593, None, 3.37), (0.0, 0.0, None), (None, 2.5, None), (8.3241, 10.236591, 13.6)]
    return genuine.json_list(place, [
        {"material_id": f"mp-{n}", "structure": genuine.structure(crystal, charge=0.0), "source": "crysxpp",
         "formation_energy_per_atom_mp": -1.79} | dict(zip(keys, of, strict=True))
        for n, (crystal, of) in enumerate(zip(genuine.smallest(4), values, strict=True))
    ])  # fmt: skip


def acwf(place: Path) -> Path:
    rows = []
    for n, crystal in enumerate(genuine.smallest(5)):
        per_atom = genuine.volume(crystal) / len(crystal.numbers)
        volumes = {f"volume_per_atom_{key}": f * per_atom for key, f in (("lda", 0.95), ("pbe", 1.0), ("pbesol", 0.97))}
        rows.append({"set": "oxides", "id": f"Ac-X{n}O", "structure_pbe": genuine.structure(crystal)} | volumes)
    return genuine.json_list(place, rows)


def phonons(place: Path) -> Path:
    # One published row, agm003769282: dosef 9.067489 per cell, debye 479.85 K, Tc 9.75 K, la 0.70409, wlog 267.12 K.
    labels = {"dosef": 9.067489, "debye": 479.8471984863281, "Tc": 9.75, "la": 0.7040903072500558, "wlog": 267.1234885}
    crystals = [crystal for crystal in genuine.smallest(200) if len(crystal.numbers) == 2][:3]
    return genuine.json_list(place, [
        {"set": "DS-A", "mat_id": f"agm00376928{n}", "structure": genuine.structure(crystal)} | labels
        for n, crystal in enumerate(crystals)
    ])  # fmt: skip


def expt_gap(place: Path) -> Path:
    values = [(0, 0.0), (1, 10.39), (3, 1.2)]
    rows = [(n, crystal, gap) for (n, gap), crystal in zip(values, genuine.smallest(3), strict=True)]
    return genuine.matbench(place, "gap expt", rows)


FIRST = genuine.smallest(1)[0]
PER_ATOM = genuine.volume(FIRST) / len(FIRST.numbers)
N = len(FIRST.numbers)
COUPLING = ("debye_temperature", "omega_log", "electron_phonon_coupling", "critical_temperature", "dos_ef")
# Name of the YAML: the published file, what writes one like it, and what is to be read of each.
TABLES: dict[str, tuple[str, Callable[[Path], Path], Expected, Expected]] = {
    "mp36k": ("mp36k.jsonl.xz", mp36k,
              Expected({"e_form": 6, "gap": 3}, {"e_form beyond 4.6 eV/atom": 2}, ("mp-0", "e_form", 0.0, N)),
              Expected({"e_form": 36_733, "gap": 34_640}, {"e_form beyond 4.6 eV/atom": 4},
                       ("mp-1000", "gap", 1.593, 2))),
    "gaps_pbe": ("gaps_pbe_hse_gllbsc.json.gz", gaps,
                 Expected({"gap": 3}, {"no label": 1}, ("mp-0", "gap", 1.593, N)),
                 Expected({"gap": 5_837}, {"no label": 396}, ("mp-1000", "gap", 1.593, 2))),
    "gaps_hse": ("gaps_pbe_hse_gllbsc.json.gz", gaps,
                 Expected({"gap": 3}, {"no label": 1}, ("mp-3", "gap", 10.236591, len(genuine.smallest(4)[3].numbers))),
                 Expected({"gap": 4_615}, {"no label": 1_618}, ("mp-10000", "gap", 0.0, 6))),
    "gaps_gllbsc": ("gaps_pbe_hse_gllbsc.json.gz", gaps,
                    Expected({"gap": 2}, {"no label": 2}, ("mp-0", "gap", 3.37, N)),
                    Expected({"gap": 2_134}, {"no label": 4_099}, ("mp-1000", "gap", 3.37, 2))),
    "acwf_pbe": ("acwf_volumes_lda_pbe_pbesol_r2scan.json.gz", acwf,
                 Expected({"volume": 5}, {}, ("Ac-X0O", "volume", PER_ATOM, N)),
                 Expected({"volume": 1_030}, {}, ("Ac-X2O", "volume", 26.798791018242085, 3))),
    "acwf_pbesol": ("acwf_volumes_lda_pbe_pbesol_r2scan.json.gz", acwf,
                    Expected({"volume": 5}, {}, ("Ac-X0O", "volume", 0.97 * PER_ATOM, N)),
                    Expected({"volume": 1_030}, {}, ("Ac-X2O", "volume", 25.232536608083095, 3))),
    "alexandria_phonon": ("alexandria_phonon_dos_dsa.json.gz", phonons,
                          Expected(dict.fromkeys(COUPLING, 3), {}, ("agm003769280", "dos_ef", 9.067489 / 2, 2)),
                          Expected(dict.fromkeys(COUPLING, 7_220), {}, ("agm003769282", "dos_ef", 9.067489 / 8, 8))),
    "expt_gap": ("expt_gap_with_mp_structures.json.gz", expt_gap,
                 Expected({"gap": 3}, {}, ("0", "gap", 0.0, N)),
                 Expected({"gap": 2_451}, {}, ("0", "gap", 0.0, 84))),
}  # fmt: skip


def at_hand(name: str, place: Path) -> list[tuple[Path, Expected]]:
    """Return a file like the published one, and the published one where it is."""
    file, write, written, published = TABLES[name]
    found = [(write(place / file), written)]
    return found + ([(genuine.PUBLISHED / file, published)] if (genuine.PUBLISHED / file).is_file() else [])


@pytest.mark.parametrize("name", TABLES)
def test_genuine_tables(name: str, tmp_path: Path) -> None:
    for path, expected in at_hand(name, tmp_path):
        records, dropped = read(name, path)
        found = Counter(label for record in records.values() for label in record.labels)
        assert found == expected.labels
        assert Counter(dropped) == expected.reasons
        one, quantity, value, n_sites = expected.one
        assert records[one].labels[quantity] == pytest.approx(value)
        assert len(records[one].crystal.numbers) == n_sites
        assert all(record.tags == {"mat_id": record.id} for record in records.values())


def test_volumes_are_per_atom_as_the_crystals_are(tmp_path: Path) -> None:
    for path, _ in at_hand("acwf_pbe", tmp_path):
        for record in read("acwf_pbe", path)[0].values():
            per_atom = genuine.volume(record.crystal) / len(record.crystal.numbers)
            assert record.labels["volume"] == pytest.approx(per_atom, rel=1e-9)


def test_the_units_of_superconductivity(tmp_path: Path) -> None:
    """The critical temperature follows from lambda and omega_log by Allen and Dynes, mu* = 0.1, if both are kelvin."""
    for path, _ in at_hand("alexandria_phonon", tmp_path):
        records, _ = read("alexandria_phonon", path)
        labels = [record.labels for record in records.values() if record.labels["critical_temperature"] > 2]
        coupling = np.array([each["electron_phonon_coupling"] for each in labels])
        by_formula = np.exp(-1.04 * (1 + coupling) / (coupling - 0.1 * (1 + 0.62 * coupling))) / 1.2
        by_formula *= [each["omega_log"] for each in labels]
        ratio = np.array([each["critical_temperature"] for each in labels]) / by_formula
        assert 1.0 < np.median(ratio) < 1.1
