"""A vector for each functional, with every encoder in configs/encoder/: exact on the quotient, nothing without it."""

from dataclasses import replace

import pytest
import torch
from support import ROOT, fresh_model, graph_settings_of

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ConfigError
from tltool.model.layers import functionals
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit

ENCODERS = sorted(p.stem for p in (ROOT / "configs" / "encoder").glob("*.yaml"))
every_encoder = pytest.mark.parametrize("encoder", ENCODERS)


def graph_of(encoder: str, crystals: list[Crystal], of: list[int] | None, quotient: bool = True) -> Graph:
    made = tensor_table.table(crystal_graphs.build(crystals, replace(graph_settings_of(encoder), quotient=quotient)))
    place = None if of is None else torch.tensor(of)
    return replace(made, functional=place).select(torch.arange(len(crystals)))


def told_apart(encoder: str, drawn: bool = True) -> PropertyModel:
    """Return a fresh model with vectors for three functionals, drawn or as they start."""
    model = fresh_model(encoder=encoder)
    functionals.give(model.encoder, 3)
    model.spec["functionals"] = ["A", "B", "C"]
    if drawn:
        torch.nn.init.normal_(model.encoder.functional.weight, generator=torch.Generator().manual_seed(5))
    return model.to(torch.get_default_dtype()).eval().requires_grad_(False)


@pytest.mark.usefixtures("double")
@every_encoder
def test_the_quotient_equals_the_full_graph(encoder: str, crystals: list[Crystal]) -> None:
    some, of = crystals[:30], [n % 3 for n in range(30)]
    model = told_apart(encoder)
    edit.refit_statistics(model, graph_of(encoder, some, of))
    expected = model(graph_of(encoder, some, of, quotient=False))
    torch.testing.assert_close(model(graph_of(encoder, some, of)), expected, atol=1e-9, rtol=1e-9)


@every_encoder
def test_at_the_start_no_functional_is_told_from_another(encoder: str, crystals: list[Crystal]) -> None:
    plain, model = fresh_model(encoder=encoder).eval(), told_apart(encoder, drawn=False)
    some = crystals[:6]
    assert torch.equal(plain(graph_of(encoder, some, None)), model(graph_of(encoder, some, [0, 1, 2, 0, 1, 2])))


@every_encoder
def test_the_functional_decides_and_is_of_the_crystal_alone(encoder: str, crystals: list[Crystal]) -> None:
    model, one = told_apart(encoder), crystals[7]
    a, b, again = model(graph_of(encoder, [one, one, one], [0, 1, 0]))
    assert torch.equal(a, again)
    assert float((a - b).abs()) > 1e-4
    levels = model.levels(graph_of(encoder, [one, one], [0, 1]))
    half = len(levels[0]) // 2
    assert torch.equal(levels[0][:half], levels[0][half:])
    assert not torch.equal(levels[-1][:half], levels[-1][half:])


@every_encoder
def test_every_vector_learns(encoder: str, crystals: list[Crystal]) -> None:
    model = told_apart(encoder, drawn=False).train().requires_grad_(True)
    graph = graph_of(encoder, crystals[:6], [0, 1, 2, 0, 1, 2])
    model.values(model.embed(graph)).square().sum().backward()
    assert (model.encoder.functional.weight.grad.abs().sum(1) > 0).all()


def test_a_graph_that_does_not_say_it(crystals: list[Crystal]) -> None:
    with pytest.raises(ConfigError, match="needs the functional of each crystal"):
        told_apart("cgcnn")(graph_of("cgcnn", crystals[:2], None))


def test_batches_carry_it_to_any_device(crystals: list[Crystal]) -> None:
    table = replace(
        tensor_table.table(crystal_graphs.build(crystals[:4], graph_settings_of("cgcnn"))),
        functional=torch.tensor([2, 0, 1, 0]),
    )
    assert table.to("cpu").select(torch.tensor([3, 0])).to("cpu").functional.tolist() == [0, 2]
    plain = replace(table, functional=None)
    assert plain.to("cpu").select(torch.tensor([3, 0])).to("cpu").functional is None


def test_a_new_functional_starts_as_the_mean(crystals: list[Crystal]) -> None:
    model = told_apart("cgcnn")
    before = model.encoder.functional.weight.clone()
    edit.new_functionals(model, ["D", "E"])
    assert model.spec["functionals"] == ["A", "B", "C", "D", "E"]
    torch.testing.assert_close(model.encoder.functional.weight[3:], before.mean(0).expand(2, -1))
    assert torch.equal(model.encoder.functional.weight[:3], before)
    assert model.encoder.functional.weight.requires_grad
    edit.renew(model)
    assert not model.encoder.functional.weight.any()
