"""The line graph: what it holds, and that its quotient computes what the full one does."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import QUOTIENT, doubled, fresh_model, other_lattice, rotated, shuffled

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import angles, crystal_graphs, neighbours
from tltool.data.graph.crystal_graphs import GraphSettings, GraphTable
from tltool.data.record import Crystal
from tltool.errors import ConfigError

MERGED = dataclasses.replace(QUOTIENT, shells="mutual", angles=True)
FULL = dataclasses.replace(MERGED, quotient=False)
CU = Crystal(1.8 * (np.ones((3, 3)) - np.eye(3)), np.zeros((1, 3)), np.array([29]))
NACL = Crystal(
    2.82 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]), np.array([[0.0, 0, 0], [0.5] * 3]), np.array([11, 17])
)


def batch(crystals: list[Crystal], graph_settings: GraphSettings) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))


def line_of(table: GraphTable) -> GraphTable:
    assert table.line is not None
    return table.line


def triples(table: GraphTable) -> list[tuple[float, ...]]:
    """All angles of a table of one crystal as (Z, Z, Z, length, preceding length, cosine, weight), sorted."""
    line = line_of(table)
    receiver = np.repeat(np.arange(len(table.number)), np.diff(table.first_edge))
    edge = np.repeat(np.arange(len(table.neighbour)), np.diff(line.first_edge))
    before = line.neighbour
    lengths = np.round(table.distance[table.distance_index], 4)
    columns = [
        table.number[receiver[edge]],
        table.number[table.neighbour[edge]],
        table.number[table.neighbour[before]],
        lengths[edge],
        lengths[before],
        line.distance[line.distance_index],
        np.round(line.multiplicity[edge] * line.edge_multiplicity, 6),
    ]
    return sorted(zip(*(np.asarray(c, dtype=float).tolist() for c in columns), strict=True))


def outcome(crystals: list[Crystal], graph_settings: GraphSettings) -> dict[str, torch.Tensor]:
    """Network values of an untrained ALIGNN in training and evaluation, its gradients and running statistics."""
    model = fresh_model(encoder="alignn_small")
    graph = batch(crystals, graph_settings)
    values = model.train().values(model.embed(graph))
    (values * torch.linspace(-1, 1, len(crystals))[:, None]).sum().backward()
    found = {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    found |= {name: b.clone() for name, b in model.named_buffers()}
    assert len(found) >= len(list(model.parameters()))
    return found | {"training": values.detach(), "evaluation": model.eval()(graph).detach()}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("shells", ["mutual", "whole", "shared"])
def test_quotient_and_full_line_graph_give_the_same(crystals: list[Crystal], shells: str) -> None:
    some = crystals[::3] if shells == "mutual" else crystals[:15]
    merged, full = (
        outcome(some, dataclasses.replace(graph_settings, shells=shells)) for graph_settings in (MERGED, FULL)
    )
    assert merged.keys() == full.keys()
    for name, value in full.items():
        torch.testing.assert_close(merged[name], value, atol=1e-9, rtol=1e-8, msg=lambda m, name=name: f"{name}: {m}")


@given(st.integers(0, 59))
def test_angles_are_those_of_all_pairs_of_edges_that_meet(crystals: list[Crystal], row: int) -> None:
    found = neighbours.find(crystals[row], 8.0, 12, "mutual")
    vector = neighbours.vectors(crystals[row], found)
    expected: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for edge in np.flatnonzero(found.site == 0):
        middle = found.neighbour[edge]
        for before in np.flatnonzero(found.site == middle):
            lengths = found.distance[edge], found.distance[before]
            cosine = -vector[edge] @ vector[before] / np.prod(lengths)
            mixed = lengths[0] + 10 * lengths[1]
            expected.setdefault((int(middle), int(found.neighbour[before])), []).append((cosine, mixed))
    table = crystal_graphs.build([crystals[row]], FULL)
    line = line_of(table)
    length = table.distance[table.distance_index]
    mine: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for edge in range(table.first_edge[1]):
        for angle in range(line.first_edge[edge], line.first_edge[edge + 1]):
            before = line.neighbour[angle]
            cosine, mixed = line.distance[line.distance_index[angle]], length[edge] + 10 * length[before]
            mine.setdefault((table.neighbour[edge], table.neighbour[before]), []).append((cosine, mixed))
    assert mine.keys() == expected.keys()
    for sites in expected:
        np.testing.assert_allclose(*(np.sort(found[sites], axis=0) for found in (mine, expected)), atol=3e-3)


def test_known_lines() -> None:
    line = line_of(crystal_graphs.build([CU], MERGED))
    assert len(line.number) == 1
    assert line.multiplicity.tolist() == [12]
    assert sorted(zip(line.distance[line.distance_index].round(6).tolist(), line.edge_multiplicity, strict=True)) == [
        (-1.0, 1), (-0.5, 4), (0.0, 2), (0.5, 4), (1.0, 1),
    ]  # fmt: skip
    table = crystal_graphs.build([NACL], MERGED)
    assert len(table.neighbour) == 4, "6 + 12 neighbours of each of two sites"
    assert line_of(table).multiplicity.tolist() == [6, 12, 6, 12]
    assert line_of(table).edge_multiplicity.sum() == 4 * 18


def test_the_line_stands_for_all_angles(crystals: list[Crystal]) -> None:
    merged, full = crystal_graphs.build(crystals, MERGED), crystal_graphs.build(crystals, FULL)
    small, large = line_of(merged), line_of(full)
    assert len(small.neighbour) < 0.3 * len(large.neighbour)
    stands_for = np.repeat(small.multiplicity, np.diff(small.first_edge)) * small.edge_multiplicity
    edge, whole = (np.repeat(np.arange(len(t.number)), np.diff(t.first_edge)) for t in (small, large))
    of_crystal = np.searchsorted(small.first_node, edge, side="right") - 1
    of_full = np.searchsorted(large.first_node, whole, side="right") - 1
    np.testing.assert_allclose(np.bincount(of_crystal, stands_for), np.bincount(of_full))
    np.testing.assert_array_equal(np.diff(small.first_node), np.diff(merged.first_edge[merged.first_node]))
    np.testing.assert_array_equal(small.distance, large.distance)


@pytest.mark.parametrize("change", [lambda c: rotated(c, 1), lambda c: shuffled(c, 2), other_lattice])
def test_the_line_does_not_depend_on_how_a_crystal_is_written(crystals: list[Crystal], change) -> None:
    for crystal in crystals[:30]:
        before, after = crystal_graphs.build([crystal], MERGED), crystal_graphs.build([change(crystal)], MERGED)
        assert before.arrays().keys() == after.arrays().keys()
        np.testing.assert_allclose(triples(before), triples(after), atol=3e-4)


def test_a_supercell_has_the_same_line_with_doubled_multiplicities(crystals: list[Crystal]) -> None:
    before, after = (crystal_graphs.build(some, MERGED) for some in (crystals, [doubled(c) for c in crystals]))
    np.testing.assert_array_equal(before.first_node, after.first_node)
    np.testing.assert_array_equal(line_of(before).first_node, line_of(after).first_node)
    np.testing.assert_array_equal(line_of(before).first_edge, line_of(after).first_edge)
    np.testing.assert_allclose(2 * line_of(before).multiplicity.sum(), line_of(after).multiplicity.sum())


def test_close_cosines_of_the_same_lengths_are_one_and_others_are_not() -> None:
    pair, cosine = np.array([0, 0, 0, 1, 1]), np.array([0.5, 0.50005, 0.5002, 0.5, -1.0 - 1e-12])
    which, first, value = angles._different(cosine, pair)
    assert which.tolist() == [0, 0, 1, 3, 2]
    np.testing.assert_allclose(value, [0.500025, 0.5002, -1.0, 0.5], atol=4e-9)
    assert first.tolist() == [0, 2, 4, 3]
    again, _, same = angles._different(cosine, pair + 2**32)
    np.testing.assert_array_equal(again, which)
    np.testing.assert_array_equal(same, value)


@pytest.mark.parametrize("graph_settings", [MERGED, FULL])
def test_blocks_join_to_the_same_table(
    crystals: list[Crystal], monkeypatch: pytest.MonkeyPatch, graph_settings: GraphSettings
) -> None:
    whole = crystal_graphs.build(crystals, graph_settings)
    monkeypatch.setattr(crystal_graphs, "_CHUNK_WITH_ANGLES", 7)
    parts = crystal_graphs.build(crystals, graph_settings).arrays()
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(array, parts[name])
    again = crystal_graphs.from_arrays(parts).arrays()
    assert all(again[name] is array for name, array in parts.items())


@given(st.lists(st.integers(0, 59), min_size=1, max_size=6))
def test_a_batch_carries_the_lines_of_its_members(crystals: list[Crystal], rows: list[int]) -> None:
    table = tensor_table.table(crystal_graphs.build(crystals, MERGED))
    together = table.select(torch.tensor(rows)).line
    assert together is not None
    edge = angle = 0
    for row in rows:
        graph = table.select(torch.tensor([row]))
        alone = graph.line
        assert alone is not None
        edges, pairs = slice(edge, edge + len(graph.neighbour)), slice(angle, angle + len(alone.neighbour))
        assert torch.equal(together.multiplicity[edges], graph.edge_weight())
        assert torch.equal(together.receiver[pairs] - edge, alone.receiver)
        assert torch.equal(together.neighbour[pairs] - edge, alone.neighbour)
        assert torch.equal(graph.neighbour[alone.receiver], graph.receiver[alone.neighbour])
        assert torch.equal(together.distance[together.distance_index[pairs]], alone.distance[alone.distance_index])
        edge, angle = edges.stop, pairs.stop
    assert angle == len(together.neighbour)


def test_without_angles_there_is_no_line(crystals: list[Crystal]) -> None:
    table = crystal_graphs.build(crystals[:3], QUOTIENT)
    assert table.line is None
    assert not [name for name in table.arrays() if name.startswith("line")]
    graph = tensor_table.table(table).to("cpu").select(torch.arange(3))
    with pytest.raises(ConfigError, match="add graph=angles"):
        fresh_model(encoder="alignn_small")(graph)
    moved = batch(crystals[:3], MERGED).to("cpu")
    assert moved.line is not None
    assert moved.cache == {}


def test_sites_without_neighbours_have_no_angle() -> None:
    lonely = Crystal(30 * np.eye(3), np.zeros((1, 3)), np.array([2]))
    for some in ([lonely, CU, lonely], [lonely], []):
        for graph_settings in (MERGED, FULL):
            assert len(line_of(crystal_graphs.build(some, graph_settings)).number) == (len(some) == 3) * (
                1 if graph_settings is MERGED else 12
            )
    model = fresh_model(encoder="alignn_small")
    values = model.train().values(model.embed(batch([lonely, CU, lonely], MERGED)))
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert torch.isfinite(model.eval()(batch([lonely], MERGED))).all()
