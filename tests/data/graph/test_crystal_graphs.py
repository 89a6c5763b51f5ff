import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import FULL, QUOTIENT, doubled, fresh_model, other_lattice, rotated, shuffled

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs, neighbours
from tltool.data.graph.crystal_graphs import GraphSettings, GraphTable
from tltool.data.record import Crystal
from tltool.errors import ConfigError, DataError


def batch(crystals: list[Crystal], graph_settings: GraphSettings) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))


def pairs(table: GraphTable, row: int) -> list[tuple[float, ...]]:
    """All edges of a crystal as (Z, multiplicity, Z of neighbour, edge multiplicity, distance), sorted."""
    nodes = range(table.first_node[row], table.first_node[row + 1])
    found = []
    for node in nodes:
        for edge in range(table.first_edge[node], table.first_edge[node + 1]):
            other = table.first_node[row] + table.neighbour[edge]
            distance = table.distance[table.first_distance[row] + table.distance_index[edge]]
            sizes = table.multiplicity[node], table.edge_multiplicity[edge]
            weight = round(float(sizes[1]), 4)
            found.append((table.number[node], sizes[0], table.number[other], weight, round(float(distance), 5)))
    return sorted(found)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("shells", "close"), [("whole", 1e-9), ("shared", 1e-9)])
def test_quotient_and_full_graph_give_the_same_predictions_and_gradients(
    crystals: list[Crystal], shells: str, close: float
) -> None:
    results = []
    for graph_settings in (dataclasses.replace(QUOTIENT, shells=shells), dataclasses.replace(FULL, shells=shells)):
        model = fresh_model()
        model.train()
        graph = batch(crystals, graph_settings)
        values = model.values(model.embed(graph))
        (values * torch.linspace(-1, 1, len(crystals))[:, None]).sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        statistics = {name: b.clone() for name, b in model.named_buffers()}
        model.eval()
        results.append((values.detach(), gradients, statistics, model(graph).detach(), graph))
    (values_q, grads_q, stats_q, eval_q, small), (values_f, grads_f, stats_f, eval_f, large) = results
    assert small.n_nodes < 0.6 * large.n_nodes
    assert len(small.neighbour) < 0.4 * len(large.neighbour)
    torch.testing.assert_close(values_q, values_f, atol=close, rtol=close)
    torch.testing.assert_close(eval_q, eval_f, atol=close, rtol=close)
    assert grads_q.keys() == grads_f.keys()
    assert len(grads_q) == len(list(fresh_model().parameters()))
    for name in grads_q:
        torch.testing.assert_close(grads_q[name], grads_f[name], atol=10 * close, rtol=10 * close)
    for name in stats_q:
        torch.testing.assert_close(stats_q[name], stats_f[name], atol=close, rtol=close)


def test_sizes_of_the_full_graph_are_kept(crystals: list[Crystal]) -> None:
    quotient, full = crystal_graphs.build(crystals, QUOTIENT), crystal_graphs.build(crystals, FULL)
    for row, crystal in enumerate(crystals):
        nodes = slice(quotient.first_node[row], quotient.first_node[row + 1])
        assert quotient.multiplicity[nodes].sum() == len(crystal.numbers)
        begin, end = quotient.first_edge[quotient.first_node[row]], quotient.first_edge[quotient.first_node[row + 1]]
        degree = np.diff(quotient.first_edge[quotient.first_node[row] : quotient.first_node[row + 1] + 1])
        weight = np.repeat(quotient.multiplicity[nodes], degree) * quotient.edge_multiplicity[begin:end]
        edges = slice(full.first_edge[full.first_node[row]], full.first_edge[full.first_node[row + 1]])
        assert weight.sum() == pytest.approx(full.edge_multiplicity[edges].sum(), rel=1e-6)
        assert weight.sum() <= 12 * len(crystal.numbers) + 1e-3


def test_known_quotients() -> None:
    fcc = Crystal(1.8 * (np.ones((3, 3)) - np.eye(3)), np.zeros((1, 3)), np.array([29]))
    cubic = Crystal(3.6 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]), np.full(4, 29))
    table = crystal_graphs.build([fcc, cubic], QUOTIENT)
    assert table.multiplicity.tolist() == [1, 4]
    assert table.edge_multiplicity.tolist() == [12, 12]
    assert len(table.distance) == 2


@pytest.mark.parametrize("change", [lambda c: rotated(c, 1), lambda c: shuffled(c, 2), other_lattice])
@pytest.mark.parametrize("graph_settings", [QUOTIENT, FULL])
def test_the_graph_does_not_depend_on_how_a_crystal_is_written(
    crystals: list[Crystal], change, graph_settings: GraphSettings
) -> None:
    before, after = (
        crystal_graphs.build(crystals, graph_settings),
        crystal_graphs.build([change(c) for c in crystals], graph_settings),
    )
    for row in range(len(crystals)):
        old, new = np.array(pairs(before, row)), np.array(pairs(after, row))
        assert old.shape == new.shape
        np.testing.assert_allclose(old, new, atol=3e-5)


def test_a_supercell_has_the_same_quotient_with_doubled_multiplicities(crystals: list[Crystal]) -> None:
    before, after = (
        crystal_graphs.build(crystals, QUOTIENT),
        crystal_graphs.build([doubled(c) for c in crystals], QUOTIENT),
    )
    np.testing.assert_array_equal(before.first_node, after.first_node)
    np.testing.assert_array_equal(2 * before.multiplicity.sum(), after.multiplicity.sum())
    np.testing.assert_allclose(before.edge_multiplicity, after.edge_multiplicity, rtol=1e-6)


def test_cells_without_neighbours_and_of_one_atom() -> None:
    lonely = Crystal(30 * np.eye(3), np.zeros((1, 3)), np.array([2]))
    cell = Crystal(2.8 * np.eye(3), np.zeros((1, 3)), np.array([84]))
    graph = batch([lonely, cell, lonely], QUOTIENT)
    assert graph.n_crystals == 3
    model = fresh_model()
    model.train()
    values = model.values(model.embed(graph))
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert torch.isfinite(model.eval()(batch([lonely], QUOTIENT))).all()


def test_blocks_join_to_the_same_table(crystals: list[Crystal], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = crystal_graphs.build(crystals, QUOTIENT)
    monkeypatch.setattr(crystal_graphs, "_CHUNK", 7)
    seen: list[int] = []
    parts = crystal_graphs.build(crystals, QUOTIENT, seen.append)
    assert seen[-1] == len(crystals)
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, parts.arrays()[name])


def test_graph_settings_refuse_nonsense_and_names_differences() -> None:
    with pytest.raises(ConfigError, match="positive"):
        dataclasses.replace(QUOTIENT, cutoff=0.0)
    with pytest.raises(ConfigError, match="mutual or strict"):
        dataclasses.replace(QUOTIENT, shells="half")
    assert QUOTIENT.key() != FULL.key()
    with pytest.raises(DataError, match="lacks"):
        crystal_graphs.from_arrays({})


def disordered(edge: int, noise: float, seed: int) -> Crystal:
    """``edge``**3 sites of three elements, each within about ``noise`` Å of a point of a cubic grid of 2.5 Å."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    frac = (grid + generator.normal(scale=noise / 2.5, size=grid.shape)) / edge
    return Crystal(2.5 * edge * np.eye(3), frac, generator.integers(3, 6, len(grid)))


def moved_by(crystal: Crystal, table: GraphTable) -> float:
    """Return by how much (Å) the distances of a full graph differ at most from those of the crystal."""
    found = neighbours.find(crystal, FULL.cutoff, FULL.max_neighbours, FULL.shells)
    mine = table.distance[table.distance_index]
    receiver = np.repeat(np.arange(len(table.number)), np.diff(table.first_edge))
    order = np.lexsort((mine, receiver)), np.lexsort((found.distance, found.site))
    return float(np.abs(mine[order[0]] - found.distance[order[1]]).max())


@pytest.mark.usefixtures("double")
@settings(max_examples=12, deadline=None)
@given(st.integers(2, 4), st.sampled_from([0.0, 1e-5, 1e-4, 1e-3, 0.02, 0.4]), st.integers(0, 99))
def test_of_disordered_cells_the_quotient_is_exact_and_distances_are_bounded(
    edge: int, noise: float, seed: int
) -> None:
    crystal = disordered(edge, noise, seed)
    crystal = doubled(crystal)
    quotient, full = (crystal_graphs.build([crystal], graph_settings) for graph_settings in (QUOTIENT, FULL))
    assert moved_by(crystal, full) <= crystal_graphs.DISTANCE_WIDTH
    np.testing.assert_array_equal(quotient.distance, full.distance)
    assert 2 * len(quotient.number) <= len(full.number)
    model = fresh_model().eval()
    torch.testing.assert_close(model(batch([crystal], QUOTIENT)), model(batch([crystal], FULL)), atol=1e-9, rtol=1e-9)


def test_distances_of_thousands_of_sites_do_not_merge_along_chains() -> None:
    crystal = disordered(18, 0.1, 0)
    full = crystal_graphs.build([crystal], FULL)
    assert len(crystal.numbers) == 5832
    assert moved_by(crystal, full) <= crystal_graphs.DISTANCE_WIDTH
    # They do lie closely enough together for chains that are wider.
    found = np.sort(neighbours.find(crystal, FULL.cutoff, FULL.max_neighbours, FULL.shells).distance)
    chains = np.split(found, np.flatnonzero(np.diff(found) > crystal_graphs.DISTANCE_TOLERANCE) + 1)
    assert max(chain[-1] - chain[0] for chain in chains) > 10 * crystal_graphs.DISTANCE_WIDTH
