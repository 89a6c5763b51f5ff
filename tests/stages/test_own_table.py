"""A data set in a known format is one YAML, or none: a table of CIF texts, a YAML for it beside, and nothing else."""

from pathlib import Path

import pandas as pd
import pytest
from commands import run
from pymatgen.core import Lattice, Structure

from tltool.data import store

YAML = """\
# Gaps (eV) of alkali halides.
defaults:
  - table
name: halides
root: ???
quantities: [gap]
functional: GW
licence: mine
citation: none yet
adapter:
  id_column: name
  structure_column: cif
  columns: [gap_ev]
  largest:
    gap: 20
  tags:
    mat_id: key
"""
METALS = ["Li", "Na", "K", "Rb", "Cs"]
HALOGENS = ["F", "Cl", "Br", "I"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give a folder with a table of twenty rows, four of them bad, and a folder of configs with one YAML."""
    salts = [Structure(Lattice.cubic(4), [m, x], [[0, 0, 0], [0.5, 0.5, 0.5]]) for m in METALS for x in HALOGENS]
    frame = pd.DataFrame({"name": [s.reduced_formula for s in salts], "cif": [s.to(fmt="cif") for s in salts]})
    frame["gap_ev"] = [10.0 - 0.3 * n for n in range(len(salts))]
    frame["key"] = [f"mp-{n}" for n in range(len(salts))]
    frame.loc[3, "gap_ev"] = None
    frame.loc[5, "gap_ev"] = 45.0
    frame.loc[7, "cif"] = None
    frame.loc[9, "cif"] = frame["cif"][9][:250]
    frame.to_csv(tmp_path / "gaps.csv.gz", index=False)
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "halides.yaml").write_text(YAML, encoding="utf-8")
    return tmp_path


def test_a_known_format_is_one_yaml(home: Path) -> None:
    done = run(
        home,
        "prepare",
        "--config-dir",
        "mine",
        "data=halides",
        "data.root=gaps.csv.gz",
        TLTOOL_CACHE=str(home / "cache"),
    )
    said = done.stdout + done.stderr
    assert "Data set halides: 16 records kept, 4 left out" in said
    for reason, name in (("no label", "LiI"), ("no structure", "NaI"), ("contains no atom sites", "KCl"),
                         ("gap beyond 20 eV", "NaCl")):  # fmt: skip
        assert f"1 left out: {reason} (first: {name}" in said
    assert "(first: KCl, gaps.csv.gz, line " in said
    (path,) = (path for path in (home / "cache").glob("halides-*/*.h5") if "graphs" not in path.name)
    kept = store.load(path)
    assert kept.attributes["functional"] == "GW"
    assert kept.tags["mat_id"][kept.ids.index("LiF")] == "mp-0"
    assert kept.record(kept.ids.index("CsI")).labels["gap"] == pytest.approx(10.0 - 0.3 * 19)


def test_or_none(home: Path) -> None:
    keys = ["quantities=[gap]", "adapter.id_column=name", "adapter.structure_column=cif", "adapter.columns=[gap_ev]"]
    words = ["data=table", "data.root=gaps.csv.gz", *(f"data.{key}" for key in keys)]
    done = run(home, "prepare", *words)
    assert "Data set table: 17 records kept, 3 left out" in done.stdout + done.stderr
    done = run(home, "prepare", *words[:-1], "data.adapter.columns=[gap]", code=3)
    assert "gaps.csv.gz: has no column 'gap'. Did you mean 'gap_ev'?" in done.stderr
