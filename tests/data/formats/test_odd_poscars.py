"""POSCARs that programs and people really write: the right crystal, or a sentence why not."""

import re
from pathlib import Path

import pytest
from odd_structures import PEROVSKITE, Known, assert_is, only

from tltool.errors import DataError


def poscar(*, scale: str = "1.0", symbols: str = "Sr V O", counts: str = "1 1 3", mode: str = "Direct\n") -> str:
    a = 1 if scale.startswith("-") else 3.84652
    rows = "0 0 0\n0.5 0.5 0.5\n0.5 0.5 0\n0.5 0 0.5\n0 0.5 0.5\n"
    return f"c\n{scale}\n{a} 0 0\n0 {a} 0\n0 0 {a}\n" + (f"{symbols}\n" if symbols else "") + f"{counts}\n{mode}{rows}"


POSCARS: dict[str, tuple[str | bytes, Known | str]] = {
    "plain": (poscar(), PEROVSKITE),
    "volume": (poscar(scale="-56.9120"), PEROVSKITE),
    "volume, Cartesian": (poscar(scale="-56.9120", mode="Cartesian\n"), PEROVSKITE),
    "factor, Cartesian": (poscar(mode="cart\n").replace("3.84652", "1").replace("1.0", "3.84652", 1), PEROVSKITE),
    "three factors": (poscar(scale="1.0 1.0 1.0"), PEROVSKITE),
    "selective dynamics": (poscar(mode="Selective dynamics\nDirect\n").replace("0.5 0\n", "0.5 0 T T F\n"), PEROVSKITE),
    "names of potentials": (poscar(symbols="Sr_sv V_pv O/0af3"), PEROVSKITE),
    "comment in Latin-1": (poscar().replace("c\n", "f\u00fcr\n", 1).encode("latin-1"), PEROVSKITE),
    "exponents of Fortran": (poscar().replace("3.84652", "0.384652D+01"), PEROVSKITE),
    "velocities": (poscar() + "\n0 0 0\n" * 5, PEROVSKITE),
    "a position missing": (poscar().rsplit("0 0.5 0.5", 1)[0], "has 4 positions, but the counts add up to 5"),
    "no mode": (poscar(mode=""), "must be Direct or Cartesian"),
    "fewer counts": (poscar(counts="1 1"), "3 elements .* 2 counts"),
    "no element": (poscar(symbols="Sr Va O"), "'Va' .* is not an element"),
    "no symbols": (poscar(symbols=""), "no line with the symbols"),
    "no volume": (poscar().replace("3.84652 0 0", "0 0 0"), "the volume of the cell is zero"),
    "coincident": (poscar().replace("0.5 0.5 0.5", "0 0 0"), "too close"),
    "a word for a number": (poscar().replace("3.84652 0 0", "a 0 0"), "line 3 must have three numbers"),
    "needle": ("t\n1.0\n1e9 0 0\n0 3e-5 0\n0 0 3e-5\nFe\n1\nDirect\n0 0 0\n", "too long for a crystal"),
    "a flood of positions": (poscar(counts="1 1 3000000000"), "add up to 3,000,000,002 positions"),
}


@pytest.mark.parametrize("kind", POSCARS)
def test_odd_poscar(kind: str, tmp_path: Path) -> None:
    data, wanted = POSCARS[kind]
    found = only(tmp_path, data, "odd.vasp")
    if isinstance(wanted, str):
        assert isinstance(found, DataError)
        assert re.search(wanted, str(found)), found
    else:
        assert_is(found, wanted)
