"""Checks of the structures in files: their limits, what becomes of a crystal that fails one, and their cost."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_structures import PAIR, cell, only, text

from tltool.data import structure_checks
from tltool.data.formats import structure_files
from tltool.data.graph import neighbours
from tltool.data.record import Crystal
from tltool.errors import ConfigError, DataError


@pytest.mark.parametrize("symmetry", ["P 1", "P -1"])
def test_two_thousand_sites_take_no_time_that_grows_as_their_square(symmetry: str, tmp_path: Path) -> None:
    n, half = (2000, 1) if symmetry == "P 1" else (1000, 2)
    grid = np.stack(np.meshgrid(*[np.arange(k) for k in (20, 10, 10)], indexing="ij"), -1).reshape(-1, 3)[:n]
    frac = (grid + 0.25) / (20 * half, 10, 10) * (1, 1, 1)
    rows = "".join(f"C{k} C {x:.6f} {y:.6f} {z:.6f}\n" for k, (x, y, z) in enumerate(frac))
    begin = time.process_time()
    found = only(tmp_path, text(cell(40 * half, 20, 20), rows, group=symmetry))
    assert time.process_time() - begin < 3
    assert isinstance(found, Crystal), found
    assert len(found.numbers) == n * half


@pytest.mark.parametrize("n", [3, 120])
@given(seed=st.integers(0, 10**6), reach=st.floats(0.2, 4.0))
@settings(max_examples=40, deadline=None)
def test_near_pairs_are_those_of_the_plain_search(n: int, seed: int, reach: float) -> None:
    random = np.random.default_rng(seed)
    lattice = 3.0 * n ** (1 / 3) * np.eye(3) + random.uniform(-1, 1, (3, 3)) * n ** (1 / 3)
    crystal = Crystal(lattice, random.random((n, 3)), np.full(n, 6))
    site, other, distance = structure_checks.near_pairs(crystal, reach)
    plain = neighbours.find(crystal, reach, None, "strict")
    both = np.sort(np.concatenate([distance, distance[site != other]]))
    np.testing.assert_allclose(both, np.sort(plain.distance), atol=1e-9)


def test_failed_checks_are_kept_and_named_if_asked(tmp_path: Path) -> None:
    warn = structure_checks.shipped()._replace(failed="warn")
    file = tmp_path / "a.cif"
    file.write_text(text(cell(10, 10, 10), "Ni1 Ni 0 0 0\nO1 O .02 0 0\n", formula="Ni O H2"))
    ((_, found),) = structure_files.attempts(file, warn)
    assert isinstance(found, Crystal)
    assert [fault.split(" (")[0] for fault in found.faults] == [
        "the sites do not have the composition of the stated formula",
        "two sites are too close",
    ]
    file.write_text(text(cell(3.8, 3.8, 68517886), PAIR))
    ((_, absurd),) = structure_files.attempts(file, warn)
    assert isinstance(absurd, DataError), "no search would come to an end"


def test_limits_are_those_of_the_yaml_and_can_be_changed(tmp_path: Path) -> None:
    shipped = structure_checks.shipped()
    assert shipped.failed == "refuse"
    file = tmp_path / "a.cif"
    file.write_text(text(cell(10, 10, 10), "Ni1 Ni 0 0 0\nO1 O .09 0 0\n"))
    (crystal,) = (crystal for _, crystal in structure_files.attempts(file))
    assert "0.90 Å apart, limit 0.95 Å" in str(crystal)
    loose = shipped._replace(limits=shipped.limits._replace(radii=0.4))
    (crystal,) = (crystal for _, crystal in structure_files.attempts(file, loose))
    assert isinstance(crystal, Crystal)
    whole = shipped.limits._asdict()
    for limits, words in ((whole | {"nearst": 1}, "Did you mean 'nearest'"), (whole | {"radii": -1}, "zero or more")):
        with pytest.raises(ConfigError, match=words):
            structure_checks.checks("refuse", limits)
    with pytest.raises(ConfigError, match="must be refuse or warn"):
        structure_checks.checks("skip", whole)
    with pytest.raises(ConfigError, match="lacks longest_edge"):
        structure_checks.checks("refuse", {})
