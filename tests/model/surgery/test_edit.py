import pytest
import torch
from support import ROOT, fresh_model

from tltool.data.dataset import Dataset
from tltool.errors import ConfigError
from tltool.model.scaler import Scaler
from tltool.model.surgery import edit

ENCODERS = sorted(p.stem for p in (ROOT / "configs" / "encoder").glob("*.yaml"))


def test_a_copy_is_independent() -> None:
    model = fresh_model()
    twin = edit.copy_of(model)
    edit.renew(twin)
    same = [n for n, p in model.named_parameters() if p.ndim > 1 and torch.equal(p, twin.get_parameter(n))]
    assert same == []


@pytest.mark.parametrize("encoder", ENCODERS)
def test_renewed_weights_are_drawn_like_new_ones(encoder: str) -> None:
    new, renewed = fresh_model(encoder=encoder), fresh_model(encoder=encoder, seed=1)
    edit.renew(renewed)
    large = {n: p.detach() for n, p in new.named_parameters() if p.numel() > 500}
    assert len(large) > 3
    ratios = {n: float(renewed.get_parameter(n).detach().std() / p.std()) for n, p in large.items()}
    assert {n: ratio for n, ratio in ratios.items() if not 0.8 < ratio < 1.25} == {}


@pytest.mark.parametrize(
    ("parts", "frozen"),
    [
        (["encoder"], "encoder."),
        (["encoder.blocks.0"], "encoder.blocks.0."),
        ([r"encoder\.blocks\.[12]"], "encoder.blocks."),
    ],
)
def test_freezing_by_part_and_regex(parts: list[str], frozen: str) -> None:
    model = fresh_model()
    edit.freeze(model, parts)
    names = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert names
    assert all(n.startswith(frozen) for n in names)
    if len(parts[0]) < 20:
        assert names == {n for n, _ in model.named_parameters() if n.startswith(frozen)}
    model.train()
    in_evaluation = {n for n, m in model.named_modules() if not m.training}
    assert in_evaluation
    assert all(f"{n}.".startswith(frozen) for n in in_evaluation)


def test_unknown_parts_are_named() -> None:
    model = fresh_model()
    with pytest.raises(ConfigError, match=r"no part has the name 'encodr'.*encoder\.blocks"):
        edit.freeze(model, ["encodr"])
    with pytest.raises(ConfigError, match="not a regular expression"):
        edit.freeze(model, ["encoder("])


def test_heads() -> None:
    model = fresh_model(("e_form", "gap"))
    with pytest.raises(ConfigError, match="several heads"):
        edit.keep_head(model, {"volume": Scaler()})
    with pytest.raises(ConfigError, match="one quantity"):
        edit.keep_head(model, {"gap": Scaler(), "e_form": Scaler()})
    kept = model.heads["gap"]
    edit.keep_head(model, {"gap": Scaler()})
    assert model.quantities == ["gap"]
    assert model.heads["gap"] is kept
    edit.new_heads(model, {"volume": Scaler()})
    assert model.quantities == ["volume"]


def test_the_report_says_what_became_of_every_tensor() -> None:
    source = fresh_model()
    model = edit.copy_of(source)
    torch.manual_seed(5)
    edit.new_heads(model, {"gap": Scaler()})
    edit.freeze(model, ["encoder"])
    found = edit.report(source, model)
    assert "heads.gap.weight" in found.new
    assert "heads.e_form.weight" in found.dropped
    assert "encoder.embedding.weight" in found.frozen
    assert set(found.loaded) | set(found.new) == set(model.state_dict())
    assert found.trainable_parameters == sum(p.numel() for n, p in model.named_parameters() if n[:7] != "encoder")


def test_statistics_are_those_of_the_given_crystals(part: Dataset) -> None:
    from support import batches_of

    data = batches_of(part)
    model = fresh_model()
    before = {n: p.clone() for n, p in model.named_parameters()}
    edit.refit_statistics(model, data.graph("train"))
    graph = data.graph("train")
    block = model.encoder.blocks[0]
    sites = model.encoder(graph)[0]
    from tltool.model import message_passing

    basis = model.encoder.basis(graph.distance)
    edges = message_passing.edge_sum(graph, block.receiver(sites), block.neighbour(sites), block.distance(basis))
    weights = graph.edge_weight()
    torch.testing.assert_close(block.norm_edges.mean, weights @ edges / weights.sum(), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert all(not m.training for m in model.encoder.modules())
    assert block.norm_edges.momentum == 0.1
