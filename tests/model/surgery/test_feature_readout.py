"""Copies, heads, and readouts that are put in a model's place: each is what a model rebuilt from its description is."""

from pathlib import Path

import pytest
import torch
from sklearn.linear_model import Ridge
from support import FULL, QUOTIENT, fresh_model, graph_settings_of

from tltool.crystal_graph import Graph
from tltool.data.batches import tensor_table
from tltool.data.formats.formulas import composition
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal
from tltool.errors import ConfigError, InapplicableError
from tltool.model.norm import WeightedBatchNorm
from tltool.model.property_model import PropertyModel
from tltool.model.scaler import Scaler
from tltool.model.sklearn_head import EstimatorHead, Standardise
from tltool.model.surgery import edit, feature_readout
from tltool.training.saved_model import checkpoint


def graph_of(crystals: list[Crystal], graph_settings: crystal_graphs.GraphSettings = QUOTIENT) -> Graph:
    return tensor_table.table(crystal_graphs.build(crystals, graph_settings)).select(torch.arange(len(crystals)))


def rebuilt(model: PropertyModel) -> PropertyModel:
    """Return what a saved ``model`` comes back as."""
    again = checkpoint.build(model.spec | {"quantities": {name: {} for name in model.quantities}})
    again.load_state_dict(model.state_dict())
    return again.eval()


def test_a_copy_trains_and_has_nothing_of_the_transfer_before() -> None:
    model = fresh_model()
    edit.freeze(model, ["encoder"])
    model.spec |= {"trainable_parameters": 7, "auto": {"chosen": "freeze"}, "new_functionals": ["HSE"]}
    twin = edit.copy_of(model)
    assert twin.frozen == ()
    assert all(p.requires_grad for p in twin.parameters())
    assert set(model.spec) - set(twin.spec) == {"trainable_parameters", "auto", "new_functionals"}
    assert model.frozen == ("encoder",)
    assert [n for n, p in model.named_parameters() if not p.requires_grad]
    for (name, mine), its in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(mine, its), name
        assert mine.data_ptr() != its.data_ptr()


def test_renewing_starts_running_statistics_afresh() -> None:
    model = fresh_model()
    edit.renew(model)
    norms = [m for m in model.modules() if isinstance(m, WeightedBatchNorm)]
    assert norms
    assert all(bool((norm.mean == 0).all() and (norm.variance == 1).all()) for norm in norms)


def test_mode_head_says_what_becomes_of_the_heads() -> None:
    new, kept = Scaler(), Scaler()
    model = fresh_model()
    old, old_scaler = model.heads["e_form"], model.scalers["e_form"]
    edit.give_head(model, {"e_form": kept}, "keep")
    assert model.heads["e_form"] is old
    assert model.scalers["e_form"] is old_scaler
    edit.give_head(model, {"volume": kept}, "keep")
    assert model.heads["volume"] is old
    assert model.scalers["volume"] is kept
    assert model.quantities == list(model.scalers) == ["volume"]
    edit.give_head(model, {"gap": new, "volume": Scaler()}, "new")
    assert model.quantities == ["gap", "volume"]
    assert model.heads["volume"] is not old
    assert model.scalers["gap"] is new
    assert model.heads["gap"].weight.shape == (1, model.trunk.dim)
    with pytest.raises(ConfigError, match=r"mode\.head='half' is not known; use new or keep"):
        edit.give_head(model, {"gap": new}, "half")


def test_an_estimator_is_no_head_to_train_on() -> None:
    model = fresh_model()
    model.heads["e_form"] = EstimatorHead(Ridge())
    with pytest.raises(ConfigError, match=r"head is an estimator.*use mode\.head=new"):
        edit.keep_head(model, {"e_form": Scaler()})
    with pytest.raises(InapplicableError, match="labels needs a source whose heads are networks"):
        feature_readout.give_features(model, [-1], ["mean"], ["labels"], bare=False)


def test_freezing_names_the_parts_down_to_the_third_and_the_key() -> None:
    model = fresh_model()
    edit.freeze(model, [r"encoder\.blocks\.0", "trunk"])
    assert model.frozen == (r"encoder\.blocks\.0", "trunk")
    with pytest.raises(ConfigError) as error:
        edit.matched(model, ["trunk", "encodr"], "fit.decay")
    said = str(error.value)
    assert said.startswith("fit.decay: no part has the name 'encodr'; use encoder, ")
    assert " encoder.blocks.0, " in said
    assert max(name.count(".") for name in said.split("; use ")[1].rstrip(".").split(", ")) == 2
    edit.matched(model, ["encoder.embedding.weight"], "")  # a single tensor has a name too
    with pytest.raises(ConfigError, match=r"mode\.parts: no part has the name 'head'"):
        edit.freeze(model, ["head"])


def test_a_new_functional_starts_from_the_mean_of_those_known() -> None:
    model = fresh_model()
    model = checkpoint.build(model.spec | {"functionals": ["PBE", "SCAN"]})
    known = torch.randn_like(model.encoder.functional.weight)
    model.encoder.functional.weight.data = known.clone()
    edit.new_functionals(model, ["HSE", "LDA", "r2SCAN"])
    weight = model.encoder.functional.weight
    assert isinstance(weight, torch.nn.Parameter)
    torch.testing.assert_close(weight.detach(), torch.cat([known, known.mean(0).expand(3, -1)]))
    assert model.spec["functionals"] == ["PBE", "SCAN", "HSE", "LDA", "r2SCAN"]


def test_refitting_statistics_gives_back_each_momentum_and_needs_edges(crystals: list[Crystal]) -> None:
    model = fresh_model()
    norms = [m for m in model.encoder.modules() if isinstance(m, WeightedBatchNorm)]
    for k, norm in enumerate(norms):
        norm.momentum = 0.01 * (k + 1)
    edit.refit_statistics(model, graph_of(crystals[:9]))
    assert [norm.momentum for norm in norms] == [0.01 * (k + 1) for k in range(len(norms))]
    with pytest.raises(ConfigError, match="refit_statistics=true needs structures"):
        edit.refit_statistics(model, graph_of([composition("NaCl", "a"), composition("KBr", "b")]))


def test_the_report_tells_loaded_from_changed_grown_and_dropped() -> None:
    source = fresh_model()
    model = edit.copy_of(source)
    edit.freeze(model, ["encoder"])
    with torch.no_grad():
        model.encoder.embedding.weight[0, 0] += 1
    model.heads["e_form"] = torch.nn.Linear(model.trunk.dim, 2)
    model.extra = torch.nn.Linear(1, 1)
    found = edit.report(source, model)
    assert found.new == ["encoder.embedding.weight", "heads.e_form.weight", "heads.e_form.bias", *EXTRA]
    assert found.dropped == ["encoder.embedding.weight", "heads.e_form.weight", "heads.e_form.bias"]
    assert found.loaded == [name for name in source.state_dict() if name not in found.dropped]
    assert found.frozen == [name for name in found.loaded if name.startswith("encoder.")]


EXTRA = ["extra.weight", "extra.bias"]


@pytest.mark.parametrize(("encoder", "extras"), [("cgcnn", ()), ("megnet", ("edges", "state"))])
@pytest.mark.parametrize("bare", [False, True])
def test_features_are_the_statistics_of_the_levels_asked_for(
    encoder: str, extras: tuple[str, ...], bare: bool, crystals: list[Crystal]
) -> None:
    model = fresh_model(encoder=encoder)
    graph = graph_of(crystals[:5], graph_settings_of(encoder))
    feature_readout.give_features(model, [0, 2], ["std"], [], bare)
    model.eval()
    assert model.readout.levels == (0, 2)
    assert model.readout.statistics == ("std",)
    assert model.readout.extras == (() if bare else extras)
    assert isinstance(model.trunk, Standardise)
    assert model.trunk.dim == model.readout.dim == model.embed(graph).shape[1]
    model.trunk.fit(model.embed(graph).detach())
    edit.new_heads(model, {"e_form": Scaler()})
    torch.testing.assert_close(rebuilt(model)(graph), model(graph))


@pytest.mark.parametrize("extra", [["labels"], ["trunk", "elements"], ["geometry", "labels", "trunk"]])
def test_extra_features_are_what_the_source_gives(extra: list[str], crystals: list[Crystal]) -> None:
    source = fresh_model(("e_form", "volume")).eval()
    source.scalers["volume"].mean.fill_(3.0)
    source.scalers["volume"].logarithmic = True
    source.spec["logarithmic"] = ["volume"]
    graph = graph_of(crystals[:5], FULL)
    model = edit.copy_of(source).eval()
    feature_readout.give_features(model, [1], ["mean", "std"], extra, bare=False)
    table = model.embed(graph)
    assert model.trunk.dim == model.readout.dim == table.shape[1]
    labels = source(graph)
    expected = {
        "labels": torch.stack([labels[:, 0], labels[:, 1].log()], 1),
        "trunk": source.trunk(source.embed(graph)),
    }
    last = "labels" if "labels" in extra else "trunk"
    torch.testing.assert_close(table[:, table.shape[1] - expected[last].shape[1] :], expected[last])
    edit.new_heads(model, {"gap": Scaler()})
    torch.testing.assert_close(rebuilt(model)(graph), model(graph))


@pytest.mark.parametrize("extra", [[], ["elements", "geometry", "labels"]])
def test_features_of_several_sources_are_those_of_each(
    extra: list[str], crystals: list[Crystal], tmp_path: Path
) -> None:
    graph = graph_of(crystals[:5])
    others = {"megnet": fresh_model(seed=1, encoder="megnet").eval(), "cgcnn_2": fresh_model(seed=2).eval()}
    model = fresh_model().eval()
    alone = []
    for one, words in ((model, extra), *((other, [w for w in extra if w == "labels"]) for other in others.values())):
        alone.append(edit.copy_of(one).eval())
        feature_readout.give_features(alone[-1], [1], ["mean"], words, bare=False)
    model.more_sources = others
    before = {name: tensor.clone() for name, tensor in others["megnet"].state_dict().items()}
    twin = edit.copy_of(model).eval()
    feature_readout.give_features(twin, [1], ["mean"], extra, bare=False)
    torch.testing.assert_close(twin.embed(graph), torch.cat([one.embed(graph) for one in alone], dim=1))
    own = {"level_1", *extra}
    assert set(twin.readout.widths) == own | {
        f"{name}_{block}" for name in others for block in own if block in ("level_1", "labels")
    }
    assert sum(twin.readout.widths.values()) == twin.readout.dim == twin.trunk.dim
    edit.new_heads(twin, {"gap": Scaler()})
    edit.freeze(twin, ["encoder", "readout", "trunk"])
    twin.spec["quantities"] = {"gap": {"unit": "eV"}}
    checkpoint.save(tmp_path / "model", twin)
    torch.testing.assert_close(checkpoint.load(tmp_path / "model")(graph), twin(graph))
    # The sources themselves are not changed, and still train.
    assert all(torch.equal(tensor, before[name]) for name, tensor in others["megnet"].state_dict().items())
    assert all(parameter.requires_grad for parameter in others["megnet"].parameters())


def test_descriptors_alone_need_no_further_source() -> None:
    model = fresh_model()
    model.more_sources = {"megnet": fresh_model(encoder="megnet")}
    feature_readout.give_features(model, [], ["mean"], ["elements", "geometry"], bare=False)
    assert set(model.readout.widths) == {"elements", "geometry"}


def test_extra_features_of_a_formula_have_no_edges() -> None:
    graph = graph_of([composition("NaCl", "a"), composition("KBr", "b")])
    model = fresh_model(encoder="megnet").eval()
    feature_readout.give_features(model, [0], ["mean"], ["elements"], bare=True)
    edit.new_heads(model, {"gap": Scaler()})
    assert not model.readout.extras
    assert torch.isfinite(model(graph)).all()
    torch.testing.assert_close(rebuilt(model)(graph), model(graph))
