"""The shipped stores can be made again to the byte, and the cleaning drops what it says."""

import csv
import hashlib
import io
import lzma
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp.inputs import Poscar

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import build_bundled

from tltool.data import store
from tltool.data.record import Dropped, Record

BUNDLED = Path(store.__file__).parent / "bundled"
SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
MODULI = {f"{m}_{kind}": "100" for m in "KG" for kind in ("Reuss", "VRH", "Voigt")}


def row(name: str, metal: str = "Na", **changes: str) -> dict[str, str]:
    salt = Structure(Lattice.cubic(4), [metal, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    text = Poscar(salt).get_str()
    labels = {"elastic_anisotropy": "0.1", "poisson_ratio": "0.2"}
    cells = {"material_id": name, "formula": f"{metal}Cl", "nsites": "2"}
    return cells | {"poscar": text, "structure": str(CifWriter(salt))} | MODULI | labels | changes


def test_cleaning_counts_what_goes_by_reason(tmp_path: Path) -> None:
    good = row("mp-1")
    rows = [
        good,
        good,
        row("mp-2", G_Reuss="-1"),
        row("mp-3", K_Voigt="90"),
        row("mp-4", K_Reuss="110"),
        row("mp-5", K_Reuss="100.01"),
        row("mp-6", metal="Xe"),
        row("mp-7", nsites="4"),
        row("mp-8", formula="NaBr"),
        row("mp-9", K_VRH="nan"),
        row("mp-10", structure=good["structure"].replace("4.0", "4.1")),
        row("mp-11", structure=good["structure"].replace("Cl1  1  0.5", "Cl1  1  0.4")),
        row("mp-12", poscar="torn"),
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, good)
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path / "table.csv.xz"
    path.write_bytes(lzma.compress(b"# ref: nobody\n" + text.getvalue().encode()))

    items = list(build_bundled.read(path, build_bundled.TABLES["elastic"]))
    assert [item.id for item in items if isinstance(item, Record)] == ["mp-1", "mp-5"]
    counts = Counter(item.reason for item in items if isinstance(item, Dropped))
    assert counts == {
        "duplicate id": 1,
        "negative modulus": 1,
        "Reuss <= VRH <= Voigt does not hold": 2,
        "noble gas": 1,
        "number of sites is not nsites": 1,
        "sites do not add up to the formula": 1,
        "label is not a number": 1,
        "POSCAR and CIF differ": 2,
        "structure cannot be read": 1,
    }


def test_index_column_that_the_header_omits_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "table.csv.xz"
    path.write_bytes(lzma.compress(b"# ref\nidx,n\n0,0,1.5\n1,1,2.5\n"))
    assert [line["n"] for line in build_bundled.rows(path)] == ["1.5", "2.5"]


def written(folder: Path, name: str, some: range) -> list[Record]:
    """Write the bundled crystals ``some`` as matminer's table of that name has them, and return them."""
    table, records = build_bundled.TABLES[name], store.load(BUNDLED / f"{name}.h5")
    chosen = [records.record(number) for number in some]
    lines = []
    for record in chosen:
        structure = Structure(*record.crystal[:1], record.crystal.numbers.tolist(), record.crystal.frac)
        cells = {"material_id": record.id, "formula": structure.reduced_formula, "nsites": str(len(structure))}
        cells |= {column: repr(record.labels[quantity]) for quantity, column in table.columns.items()}
        if name == "demo":
            sites = [
                {"abc": s.frac_coords.tolist(), "species": [{"occu": 1, "element": s.specie.symbol}]} for s in structure
            ]
            cells |= {"structure": repr({"lattice": {"matrix": structure.lattice.matrix.tolist()}, "sites": sites})}
        else:
            # The tables hold both, and their axes differ; Reuss and Voigt averages bracket the third.
            cells |= {"poscar": Poscar(structure).get_str(significant_figures=8)}
            cells |= {"structure": str(CifWriter(structure, significant_figures=8))}
            cells |= {f"{m}_{of}": cells[f"{m}_VRH"] for m in "KG" if f"{m}_VRH" in cells for of in ("Reuss", "Voigt")}
        lines.append(cells)
    text = io.StringIO()
    text.write("# ref: see the citation\n")
    writer = csv.writer(text)
    writer.writerow(["idx", *lines[0]])
    # Some of the tables have an index that their header does not know.
    more = [[0], [0, 0]][name == "piezoelectric"]
    writer.writerows([*more, *cells.values()] for cells in lines)
    (folder / table.file).write_bytes(lzma.compress(text.getvalue().encode()))
    return chosen


def test_crystals_and_labels_come_out_of_the_tables_as_they_went_in(tmp_path: Path) -> None:
    went_in = {name: written(tmp_path, name, range(3, 40, 9)) for name in build_bundled.TABLES}
    lost = build_bundled.build(tmp_path, tmp_path)
    assert lost == {name: {} for name in build_bundled.TABLES}
    for name, records in went_in.items():
        bytes_of = (tmp_path / f"{name}.h5").read_bytes()
        found, shipped = store.load(tmp_path / f"{name}.h5"), store.load(BUNDLED / f"{name}.h5")
        assert list(found.ids) == [record.id for record in records]
        assert {key: found.attributes[key] for key in ("functional", "citation", "kept", "dropped")} == {
            "functional": shipped.attributes["functional"],
            "citation": shipped.attributes["citation"],
            "kept": str(len(records)),
            "dropped": "{}",
        }
        for number, record in enumerate(records):
            again = found.record(number)
            assert again.labels == pytest.approx(record.labels)
            assert np.array_equal(np.sort(again.crystal.numbers), np.sort(record.crystal.numbers))
            near, far = (build_bundled.distances(of.crystal) for of in (again, record))
            np.testing.assert_allclose(near, far, atol=1e-5)
        build_bundled.build(tmp_path, tmp_path)
        assert (tmp_path / f"{name}.h5").read_bytes() == bytes_of


@pytest.mark.long
def test_the_shipped_stores_come_out_again_to_the_byte(tmp_path: Path) -> None:
    # The tables themselves are too large for the repository; where they are not, what the stores say of them is held.
    for name, table in build_bundled.TABLES.items():
        facts = store.load(BUNDLED / f"{name}.h5").attributes
        assert facts["address"] == f"matminer 0.4.0 source package, {table.file}"
        assert len(facts["sha256"]) == 64
    if SHARED.is_dir():
        lost = build_bundled.build(SHARED, tmp_path)
        assert lost == {"demo": {}, "elastic": {}, "dielectric": {}, "piezoelectric": {}}
        for path in sorted(tmp_path.glob("*.h5")):
            digests = [hashlib.sha256((where / path.name).read_bytes()).hexdigest() for where in (tmp_path, BUNDLED)]
            assert digests[0] == digests[1], f"{path.name}: run scripts/build_bundled.py and commit what it writes"
        assert len(list(tmp_path.glob("*.h5"))) == 4
