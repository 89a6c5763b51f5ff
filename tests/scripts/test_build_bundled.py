"""The shipped stores can be made again to the byte, and the cleaning drops what it says."""

import csv
import hashlib
import io
import lzma
import sys
from collections import Counter
from pathlib import Path

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


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")
def test_the_shipped_stores_come_out_again_to_the_byte(tmp_path: Path) -> None:
    lost = build_bundled.build(SHARED, tmp_path)
    assert lost == {"demo": {}, "elastic": {}, "dielectric": {}, "piezoelectric": {}}
    for path in sorted(tmp_path.glob("*.h5")):
        digests = [hashlib.sha256((where / path.name).read_bytes()).hexdigest() for where in (tmp_path, BUNDLED)]
        assert digests[0] == digests[1], f"{path.name}: run scripts/build_bundled.py and commit what it writes"
    assert len(list(tmp_path.glob("*.h5"))) == 4
