import numpy as np
import pytest
import torch
from needs import DGL
from support import FULL, QUOTIENT, config, doubled, fresh_model, shuffled

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.model.encoders.cgat import shell_of_edge
from tltool.model.kernels import dgl

PUBLISHED = GraphSettings(**config("pretrain", "graph=cgat")["graph"])
SMALL = ("encoder.dim=8", "encoder.heads=2", "readout=attention")
VARIANTS = {
    "plain": (),
    "vector": ("encoder.attention=vector",),
    "edges": ("encoder.update_edges=true",),
    "hypernetwork": ("encoder.attention=vector", "encoder.update_edges=true", "encoder.update=hypernetwork"),
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def graph_of(crystals: list[Crystal], graph_settings: GraphSettings = QUOTIENT) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))


def predictions(variant: str, graph: Graph) -> torch.Tensor:
    with torch.no_grad():
        return fresh_model(encoder="cgat", overrides=(*SMALL, *VARIANTS[variant])).eval()(graph)


def strained(crystal: Crystal, factor: float) -> Crystal:
    return crystal._replace(lattice=crystal.lattice * factor)


@variants
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("factor", [0.95, 1.04])
def test_an_even_strain_changes_nothing(variant: str, factor: float, crystals: list[Crystal]) -> None:
    before = predictions(variant, graph_of(crystals, PUBLISHED))
    after = predictions(variant, graph_of([strained(c, factor) for c in crystals], PUBLISHED))
    torch.testing.assert_close(after, before, atol=1e-9, rtol=1e-9)


@pytest.mark.usefixtures("double")
def test_an_uneven_strain_does(crystals: list[Crystal]) -> None:
    before = predictions("plain", graph_of(crystals, PUBLISHED))
    uneven = [c._replace(lattice=c.lattice @ np.diag([1.05, 1.0, 0.97])) for c in crystals]
    assert float((predictions("plain", graph_of(uneven, PUBLISHED)) - before).abs().max()) > 1e-4


@variants
@pytest.mark.usefixtures("double")
def test_every_variant_keeps_the_contract(variant: str, crystals: list[Crystal]) -> None:
    before = predictions(variant, graph_of(crystals[:30]))
    torch.testing.assert_close(predictions(variant, graph_of(crystals[:30], FULL)), before, atol=1e-9, rtol=1e-9)
    for change in (doubled, lambda c: shuffled(c, 2)):
        after = predictions(variant, graph_of([change(c) for c in crystals[:30]]))
        torch.testing.assert_close(after, before, atol=1e-9, rtol=1e-9)
    model = fresh_model(encoder="cgat", overrides=(*SMALL, *VARIANTS[variant]))
    model(graph_of(crystals[:30])).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@DGL
@variants
@pytest.mark.usefixtures("double")
def test_dgl_gives_the_same(variant: str, crystals: list[Crystal]) -> None:
    plain = graph_of(crystals[:30])
    expected = predictions(variant, plain)
    by_dgl = predictions(variant, plain.using(dgl.operations()))
    torch.testing.assert_close(by_dgl, expected, atol=1e-6, rtol=1e-6)


def test_shells_are_counted_from_each_site() -> None:
    rock_salt = Crystal(
        5.64 * np.eye(3),
        np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5],
                  [0.5, 0.5, 0.5]]),
        np.array([11] * 4 + [17] * 4),
    )  # fmt: skip
    graph = graph_of(
        [rock_salt, rock_salt], GraphSettings(cutoff=5.0, max_neighbours=None, shells="shared", quotient=True)
    )
    # Two nodes a crystal, each with 6, 12 and 8 neighbours.
    assert shell_of_edge(graph, 1e-3).tolist() == [0, 1, 2] * 4
    assert shell_of_edge(graph, 0.3).tolist() == [0, 1, 1] * 4
    # A site that moved by less than the tolerance opens no shell.
    moved = rock_salt._replace(frac=rock_salt.frac + np.array([1e-4, 0, 0]) * (np.arange(8) == 3)[:, None])
    graph = graph_of([moved], GraphSettings(cutoff=5.0, max_neighbours=None, shells="shared", quotient=False))
    assert int(shell_of_edge(graph, 1e-3).max()) == 2
    assert int(shell_of_edge(graph, 1e-6).max()) > 2


def test_further_shells_share_the_last(crystals: list[Crystal]) -> None:
    graph = graph_of(crystals[:10])
    assert int(shell_of_edge(graph, 1e-3).max()) > 3
    model = fresh_model(encoder="cgat", overrides=("encoder.shells=3",))
    assert torch.isfinite(model(graph)).all()


def test_unknown_choices_are_named() -> None:
    for key, message in (("attention", "scalar or vector"), ("update", "plain or hypernetwork")):
        with pytest.raises(ConfigError, match=message):
            fresh_model(encoder="cgat", overrides=(f"encoder.{key}=guessed",))
