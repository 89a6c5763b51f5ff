import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from tltool.data.formats.formulas import composition
from tltool.data.graph import neighbours
from tltool.data.record import Crystal

NACL = Crystal(
    np.array([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]]),
    np.array([[0.0, 0, 0], [0.5] * 3]),
    np.array([11, 17]),
)
CU = Crystal(np.eye(3) * 0 + 1.8 * (np.ones((3, 3)) - np.eye(3)), np.zeros((1, 3)), np.array([29]))


def structure(crystal: Crystal) -> Structure:
    return Structure(Lattice(crystal.lattice), crystal.numbers, crystal.frac)


def test_all_within_the_cutoff_as_pymatgen_finds_them(crystals: list[Crystal]) -> None:
    for crystal in crystals[:10]:
        found = neighbours.find(crystal, 5.0, None, "shared")
        expected = structure(crystal).get_all_neighbors(5.0)
        assert np.bincount(found.site, minlength=len(crystal.numbers)).tolist() == [len(e) for e in expected]
        for site, others in enumerate(expected):
            mine = found.distance[found.site == site]
            np.testing.assert_allclose(mine, np.sort([o.nn_distance for o in others]), atol=1e-9)


@given(st.integers(0, 59), st.integers(1, 20))
def test_capped_neighbours_are_the_nearest_of_all(crystals: list[Crystal], row: int, k: int) -> None:
    crystal = crystals[row]
    everything = neighbours.find(crystal, 8.0, None, "shared")
    whole = neighbours.find(crystal, 8.0, k, "whole")
    strict = neighbours.find(crystal, 8.0, k, "strict")
    shared = neighbours.find(crystal, 8.0, k, "shared")
    assert (whole.weight == 1).all()
    assert (strict.weight == 1).all()
    for site in range(len(crystal.numbers)):
        distances = everything.distance[everything.site == site]
        nearest = distances[:k]
        np.testing.assert_allclose(strict.distance[strict.site == site], nearest, atol=1e-9)
        reach = distances[distances <= nearest[-1] + neighbours.SHELL_TOLERANCE]
        np.testing.assert_allclose(whole.distance[whole.site == site], reach, atol=1e-9)
        mine = shared.site == site
        np.testing.assert_allclose(shared.distance[mine], reach, atol=1e-9)
        weight = shared.weight[mine]
        assert weight.sum() == pytest.approx(min(k, len(distances)))
        inner = reach < nearest[-1] - neighbours.SHELL_TOLERANCE
        assert (weight[inner] == 1).all()
        assert len(set(weight[~inner])) == 1


def test_a_shell_is_kept_whole() -> None:
    assert len(neighbours.find(NACL, 8.0, 8, "whole").site) == 2 * (6 + 12)
    assert len(neighbours.find(NACL, 8.0, 8, "strict").site) == 2 * 8
    assert len(neighbours.find(CU, 8.0, 1, "whole").site) == 12


def test_a_shell_shares_the_places_left() -> None:
    found = neighbours.find(NACL, 8.0, 8, "shared")
    assert sorted(found.weight[found.site == 0]) == pytest.approx([2 / 12] * 12 + [1] * 6)


@given(st.integers(0, 59))
def test_mutual_neighbours_are_the_whole_shells_and_their_reverse(crystals: list[Crystal], row: int) -> None:
    def edges(found: neighbours.Neighbours) -> set[tuple[int, ...]]:
        return {
            (int(s), int(n), *map(int, i)) for s, n, i in zip(found.site, found.neighbour, found.image, strict=True)
        }

    whole, mutual = (neighbours.find(crystals[row], 8.0, 12, shells) for shells in ("whole", "mutual"))
    reverse = {(n, s, -x, -y, -z) for s, n, x, y, z in edges(whole)}
    assert edges(mutual) == edges(whole) | reverse
    assert len(mutual.site) == len(edges(mutual))
    assert (mutual.weight == 1).all()
    np.testing.assert_allclose(
        np.linalg.norm(neighbours.vectors(crystals[row], mutual), axis=1), mutual.distance, atol=1e-6
    )
    order = np.lexsort((mutual.distance, mutual.site))
    np.testing.assert_array_equal(mutual.distance[order], mutual.distance)


def test_images_lead_to_the_neighbour(crystals: list[Crystal]) -> None:
    for crystal in crystals[:10]:
        found = neighbours.find(crystal, 8.0, 12, "whole")
        vectors = neighbours.vectors(crystal, found)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), found.distance, atol=1e-6)


@pytest.mark.parametrize("k", [None, 12])
def test_a_site_without_neighbours_has_no_edge(k: int | None) -> None:
    lonely = Crystal(20 * np.eye(3), np.zeros((1, 3)), np.array([2]))
    assert len(neighbours.find(lonely, 8.0, k, "whole").site) == 0
    near = Crystal(20 * np.eye(3), np.array([[0.0, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0.5]]), np.array([2, 2, 10]))
    assert neighbours.find(near, 8.0, k, "whole").site.tolist() == [0, 1]


def sphere_of(monkeypatch: pytest.MonkeyPatch, crystal: Crystal, k: int, radius: float) -> None:
    """Let the search for ``k`` neighbours begin with a sphere of this ``radius`` (Å)."""
    volume = abs(np.linalg.det(crystal.lattice))
    guess = (3 * (k + 1) * volume / (4 * np.pi * len(crystal.numbers))) ** (1 / 3)
    monkeypatch.setattr(neighbours, "_START", radius / guess)


@pytest.mark.parametrize("radius", [0.5, 3.0004, 3.0007, 3.0015, 3.0017, 3.5, 7.9, 8.0, 30.0])
@pytest.mark.parametrize("shells", ["whole", "shared", "strict", "mutual"])
def test_the_first_sphere_decides_nothing(radius: float, shells: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Four neighbours at 3 Å and two at 3.0008 Å are one shell, which a sphere between the two would cut.
    crystal = Crystal(np.diag([3.0, 3.0, 3.0008]), np.zeros((1, 3)), np.array([84]))
    expected = neighbours.find(crystal, 8.0, 4, shells)
    sphere_of(monkeypatch, crystal, 4, radius)
    found = neighbours.find(crystal, 8.0, 4, shells)
    for mine, its in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, its)
    assert len(found.site) == (4 if shells == "strict" else 6)


@pytest.mark.parametrize("cutoff", [3.5, 5.0])
def test_nothing_beyond_the_cutoff_is_a_neighbour(cutoff: float, monkeypatch: pytest.MonkeyPatch) -> None:
    crystal = Crystal(3 * np.eye(3), np.zeros((1, 3)), np.array([84]))
    within = {3.5: 6, 5.0: 18}[cutoff]
    for radius in (1.0, 4.0, 20.0):
        sphere_of(monkeypatch, crystal, 12, radius)
        found = neighbours.find(crystal, cutoff, 100, "whole")
        assert len(found.site) == within
        assert found.distance.max() <= cutoff
        shared = neighbours.find(crystal, cutoff, 100, "shared")
        assert (shared.weight == 1).all()


def test_edges_are_sorted_by_site_then_distance_then_neighbour(crystals: list[Crystal]) -> None:
    for crystal in crystals[:20]:
        for k, shells in ((None, "whole"), (12, "strict"), (12, "shared"), (12, "mutual")):
            found = neighbours.find(crystal, 6.0, k, shells)
            keys = [found.site, found.distance, found.neighbour]
            order = np.lexsort(keys[::-1])
            for key in keys:
                np.testing.assert_array_equal(key[order], key)
            assert found.image.dtype == np.int64
            assert (found.distance > 0).all()


def test_a_formula_has_no_neighbours_of_the_right_shapes() -> None:
    found = neighbours.find(composition("Fe2O3", "a"), 8.0, 12, "shared")
    assert [part.shape for part in found] == [(0,), (0,), (0, 3), (0,), (0,)]
    assert [part.dtype for part in found] == [np.int64] * 3 + [np.float64] * 2


def test_sites_with_coordinates_outside_the_cell_are_those_inside(crystals: list[Crystal]) -> None:
    crystal = crystals[7]
    moved = crystal._replace(frac=crystal.frac + np.arange(len(crystal.numbers))[:, None] - 3)
    for mine, its in zip(
        neighbours.find(moved, 6.0, 12, "shared"), neighbours.find(crystal, 6.0, 12, "shared"), strict=True
    ):
        np.testing.assert_allclose(mine, its, atol=1e-9)
    found = neighbours.find(moved, 6.0, 12, "whole")
    np.testing.assert_allclose(np.linalg.norm(neighbours.vectors(moved, found), axis=1), found.distance, atol=1e-6)


def test_a_last_site_without_neighbours_leaves_the_shares_of_the_others() -> None:
    frac = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.5, 0.5, 0.5]])
    found = neighbours.find(Crystal(20 * np.eye(3), frac, np.array([2, 2, 10])), 8.0, 12, "shared")
    assert found.site.tolist() == [0, 1]
    assert found.weight.tolist() == [1.0, 1.0]
