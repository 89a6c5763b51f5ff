"""The contract that every readout in configs/readout/ is held to, with every encoder in configs/encoder/."""

from dataclasses import replace

import pytest
import torch
from needs import DGL
from support import ROOT, config, doubled, fresh_model, graph_settings_of, shuffled

from tltool import instantiate
from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.model.kernels import dgl
from tltool.model.readouts.pool import reads_elements_alone

READOUTS = sorted(p.stem for p in (ROOT / "configs" / "readout").glob("*.yaml"))
_EVERY = sorted(p.stem for p in (ROOT / "configs" / "encoder").glob("*.yaml"))
# One size of each encoder: what a readout is given differs between their classes.
ENCODERS = list(
    {config("pretrain", f"encoder={name}")["encoder"]["_target_"]: name for name in reversed(_EVERY)}.values()
)
both = pytest.mark.parametrize(("readout", "encoder"), [(r, e) for r in READOUTS for e in ENCODERS])
SPREAD = "readout.statistics=[mean,std]"


def graph_of(crystals: list[Crystal], encoder: str, quotient: bool = True) -> Graph:
    graph_settings = replace(graph_settings_of(encoder), quotient=quotient)
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))


def embedded(readout: str, encoder: str, graph: Graph) -> torch.Tensor:
    model = fresh_model(encoder=encoder, overrides=(f"readout={readout}", *([SPREAD] if readout == "pool" else [])))
    with torch.no_grad():
        return model.eval().embed(graph)


@both
@pytest.mark.usefixtures("double")
def test_every_site_counts_once(readout: str, encoder: str, crystals: list[Crystal]) -> None:
    crystals = crystals[::2]
    before = embedded(readout, encoder, graph_of(crystals, encoder))
    assert float(before.std(0).mean()) > 1e-4
    torch.testing.assert_close(
        embedded(readout, encoder, graph_of(crystals, encoder, quotient=False)), before, atol=1e-9, rtol=1e-9
    )
    for change in (doubled, lambda c: shuffled(c, 5)):
        after = embedded(readout, encoder, graph_of([change(c) for c in crystals], encoder))
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


@both
@pytest.mark.usefixtures("double")
def test_a_batch_equals_its_members(readout: str, encoder: str, crystals: list[Crystal]) -> None:
    together = embedded(readout, encoder, graph_of(crystals[:12], encoder))
    alone = torch.cat([embedded(readout, encoder, graph_of([c], encoder)) for c in crystals[:12]])
    torch.testing.assert_close(together, alone, atol=1e-9, rtol=1e-9)


@both
def test_every_parameter_learns(readout: str, encoder: str, crystals: list[Crystal]) -> None:
    model = fresh_model(encoder=encoder, overrides=(f"readout={readout}",))
    model.values(model.embed(graph_of(crystals, encoder))).square().sum().backward()
    unread = getattr(model.encoder, "extras", ()) and not getattr(model.readout, "extras", ())
    rows = [(name, p) for name, p in model.named_parameters() if not (unread and name.startswith("encoder."))]
    assert [name for name, p in rows if p.grad is None or not p.grad.abs().sum() > 0] == []


@DGL
@both
@pytest.mark.usefixtures("double")
def test_dgl_and_torch_agree(readout: str, encoder: str, crystals: list[Crystal]) -> None:
    crystals = crystals[::2]
    plain = embedded(readout, encoder, graph_of(crystals, encoder))
    by_dgl = graph_of(crystals, encoder).using(dgl.operations())
    torch.testing.assert_close(embedded(readout, encoder, by_dgl), plain, atol=1e-6, rtol=1e-6)


@both
def test_a_crystal_without_an_edge(readout: str, encoder: str, crystals: list[Crystal]) -> None:
    lonely = crystals[0]._replace(lattice=crystals[0].lattice * 50)
    graph = graph_of([*crystals[:3], lonely], encoder)
    assert int(graph.first_edge[graph.first_node[3]]) == len(graph.neighbour)
    model = fresh_model(encoder=encoder, overrides=(f"readout={readout}",))
    out = model.embed(graph)
    assert torch.isfinite(out).all()
    out.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("readout", READOUTS)
def test_levels_are_chosen_and_checked(readout: str) -> None:
    node = config("pretrain", f"readout={readout}")["readout"]
    for extras in ((), ("state",), ("edges", "state")):
        one, two = (instantiate.call(node | {"levels": levels}, 8, 4, extras) for levels in ([-1], [0, 3]))
        assert two.dim > one.dim >= 8 or readout in ("set2set", "atom_set")
    assert instantiate.call(node | {"levels": [2]}, 8, 4).dim == instantiate.call(node | {"levels": [-1]}, 8, 4).dim
    with pytest.raises(ConfigError, match="use 0 to 3"):
        instantiate.call(node | {"levels": [4]}, 8, 4)


@pytest.mark.parametrize("readout", READOUTS)
def test_what_reads_the_elements_alone_says_so(readout: str) -> None:
    node = config("pretrain", f"readout={readout}")["readout"]
    for levels, alone in (([0], True), ([-4], True), ([0, 1], False), ([-1], False)):
        assert reads_elements_alone(instantiate.call(node | {"levels": levels}, 8, 4), 4) == alone
    assert reads_elements_alone(instantiate.call(node | {"levels": [0]}, 8, 4, ("state",)), 4) == (
        readout == "atom_set"
    )
    assert not reads_elements_alone(torch.nn.Identity(), 4)
