"""The laws of the house, over every transfer mode in configs/mode/."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from support import ROOT, a_fit, batches_of, candidates, config

from tltool import instantiate
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.errors import ConfigError
from tltool.model.property_model import PropertyModel
from tltool.model.sklearn_head import EstimatorHead
from tltool.model.surgery import edit
from tltool.training import fit as fitting
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint

MODES = [*sorted(p.stem for p in (ROOT / "configs" / "mode").glob("*.yaml")), "features/atom_set"]
REGRESSORS = sorted(p.stem for p in (ROOT / "configs" / "mode" / "regressor").glob("*.yaml"))
BACKBONE = ["encoder", "readout", "trunk"]


@pytest.fixture(scope="module")
def target(part: Dataset) -> Batches:
    """Another quantity of the same crystals, few rows."""
    return batches_of(part, ("e_above_hull",), seed=3, train_size=40)


def backbone(model: PropertyModel) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if not name.startswith("heads.")]


def run(mode: str, source: PropertyModel, data: Batches, *overrides: str, **keys) -> PropertyModel:
    mode, *regressor = mode.split("/")
    node = config("transfer", f"mode={mode}", *(f"mode/regressor={name}" for name in regressor), *overrides)["mode"]
    return instantiate.call(node, source, data, a_fit(**keys))


class Made(NamedTuple):
    """A model that a mode made, what it logged, and the source as it was before."""

    model: PropertyModel
    events: list[dict]
    weights: dict[str, torch.Tensor]
    trainable: list[bool]
    spec: str


@pytest.fixture(scope="module", params=MODES)
def made(request: pytest.FixtureRequest, source: PropertyModel, target: Batches) -> Made:
    """What each mode makes of the source, once for all laws."""
    before = {k: v.clone() for k, v in source.state_dict().items()}
    trainable = [p.requires_grad for p in source.parameters()]
    spec, events = str(source.spec), []
    few = ["mode.folds=2", *candidates("labels", "process", "ridge", "finetune")] if request.param == "auto" else []
    model = run(request.param, source, target, *few, log=events.append)
    return Made(model, events, before, trainable, spec)


def test_the_source_stays_as_it_was_to_the_bit(made: Made, source: PropertyModel) -> None:
    assert all(torch.equal(v, made.weights[k]) for k, v in source.state_dict().items())
    assert [p.requires_grad for p in source.parameters()] == made.trainable
    assert str(source.spec) == made.spec
    assert not {p.data_ptr() for p in made.model.parameters()} & {p.data_ptr() for p in source.parameters()}


def test_what_comes_out_predicts_the_target_and_survives_the_disk(made: Made, target: Batches, tmp_path) -> None:
    model = made.model
    assert model.quantities == ["e_above_hull"]
    predicted = predict(model, target, "test")
    assert np.isfinite(predicted).all()
    assert predicted.std() > 0
    (report,) = [e for e in made.events if e["event"] == "load_report"]
    assert report["step_0_val_MAE"]["e_above_hull"] > 0
    assert report["new"]
    model.spec |= {"quantities": {"e_above_hull": {"unit": "eV/atom"}}}
    checkpoint.save(tmp_path / "model", model)
    np.testing.assert_allclose(predict(checkpoint.load(tmp_path / "model"), target, "test"), predicted, atol=1e-6)


def test_freeze_equals_features(source: PropertyModel, target: Batches) -> None:
    frozen = run("freeze", source, target, f"mode.parts=[{','.join(BACKBONE)}]", epochs=12)
    on_table = run("features", source, target, "mode.level=trunk", "mode.regressor=null", epochs=12)
    np.testing.assert_allclose(predict(frozen, target, "test"), predict(on_table, target, "test"), atol=2e-5)
    start = run("freeze", source, target, f"mode.parts=[{','.join(BACKBONE)}]", epochs=0)
    assert np.abs(predict(frozen, target, "test") - predict(start, target, "test")).max() > 1e-3


@pytest.mark.parametrize("refit", ["false", "true"])
def test_freeze_equals_features_with_refitted_statistics(source: PropertyModel, target: Batches, refit: str) -> None:
    keys = f"mode.refit_statistics={refit}"
    frozen = run("freeze", source, target, f"mode.parts=[{','.join(BACKBONE)}]", keys)
    on_table = run("features", source, target, "mode.level=trunk", "mode.regressor=null", keys)
    np.testing.assert_allclose(predict(frozen, target, "test"), predict(on_table, target, "test"), atol=2e-5)


def test_step_0_is_the_source(source: PropertyModel, part: Dataset) -> None:
    same = batches_of(part, seed=9, train_size=50)
    model = run("finetune", source, same, "mode.head=keep", epochs=0)
    assert (predict(model, same, "test") == predict(source, same, "test")).all()


def test_frozen_parts_are_equal_to_the_bit_and_the_rest_is_not(source: PropertyModel, target: Batches) -> None:
    model = run("freeze", source, target, "mode.parts=[encoder.blocks.0,encoder.embedding]", epochs=4, ema=0.9)
    before, after = source.state_dict(), model.state_dict()
    held = [k for k in before if k.startswith(("encoder.blocks.0.", "encoder.embedding."))]
    assert any(k.endswith("norm_edges.mean") for k in held)
    assert all(torch.equal(before[k], after[k]) for k in held)
    moved = [k for k in before if k.startswith(("encoder.blocks.1.", "trunk."))]
    assert all(not torch.equal(before[k], after[k]) for k in moved)


def test_scratch_uses_no_number_of_the_source(source: PropertyModel, target: Batches) -> None:
    other = checkpoint.build(source.spec)
    other.spec = source.spec
    expected = predict(run("scratch", source, target), target, "test")
    assert (predict(run("scratch", other, target), target, "test") == expected).all()


def test_finetune_options(source: PropertyModel, target: Batches) -> None:
    plain = run("finetune", source, target)
    still = run("finetune", source, target, "mode.lr_scale={encoder: 0.0}")
    close = run("finetune", source, target, "mode.l2_sp=10.0")

    def moved(model: PropertyModel) -> float:
        pairs = zip(source.encoder.parameters(), model.encoder.parameters(), strict=True)
        return sum(float((a - b).detach().square().sum()) for a, b in pairs)

    assert moved(still) == 0
    assert 0 < moved(close) < 0.5 * moved(plain)
    events: list[dict] = []
    run("finetune", source, target, "mode.probe_first=true", log=events.append)
    assert len([e for e in events if e["event"] == "epoch"]) == 6
    with pytest.raises(ConfigError, match=r"mode\.lr_scale: no part has the name 'encodr'"):
        run("finetune", source, target, "mode.lr_scale={encodr: 0.1}")
    with pytest.raises(ConfigError, match="new or keep"):
        run("finetune", source, target, "mode.head=old")


def test_layer_decay_slows_what_is_further_from_the_head(source: PropertyModel, target: Batches) -> None:
    plain, same = run("finetune", source, target), run("finetune", source, target, "mode.layer_decay=1.0")
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in same.state_dict().items())
    still = run("finetune", source, target, "mode.layer_decay=0.0")
    assert all(torch.equal(p, dict(source.named_parameters())[n]) for n, p in backbone(still))
    slow = run("finetune", source, target, "mode.layer_decay=0.1", "mode.lr_scale={trunk: 0.0}")

    def moved(model: PropertyModel, part: str) -> float:
        before = dict(source.named_parameters())
        return max(float((p - before[n]).detach().abs().max()) for n, p in backbone(model) if n.startswith(part))

    assert moved(slow, "trunk.") == 0
    parts = ["encoder.blocks.2.", "encoder.blocks.1.", "encoder.blocks.0.", "encoder.embedding."]
    shares = [moved(slow, part) / moved(plain, part) for part in parts]
    assert all(0 < b < 0.5 * a for a, b in pairwise([1.0, *shares]))
    with pytest.raises(ConfigError, match=r"mode\.layer_decay=1\.5"):
        run("finetune", source, target, "mode.layer_decay=1.5")


@pytest.mark.parametrize("keys", [{}, {"ema": 0.9, "select": "last"}])
def test_what_is_not_yet_released_rests_to_the_bit(
    source: PropertyModel, target: Batches, monkeypatch: pytest.MonkeyPatch, keys: dict
) -> None:
    seen: list[dict] = []
    validate = fitting.validate

    def watched(model, data, values=None):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return validate(model, data, values)

    monkeypatch.setattr(fitting, "validate", watched)
    model = run("finetune", source, target, "mode.unfreeze=1", epochs=6, **keys)
    parts = ["trunk.", "encoder.blocks.2.", "encoder.blocks.1.", "encoder.blocks.0.", "encoder.embedding."]
    before = source.state_dict()
    # Where the start was watched too, it comes first.
    states = seen[-6:]
    for epoch, state in enumerate(states, 1):
        if epoch > 1:
            assert not torch.equal(state["heads.e_above_hull.bias"], states[epoch - 2]["heads.e_above_hull.bias"])
        for k, part in enumerate(parts):
            still = [torch.equal(v, before[n]) for n, v in state.items() if n.startswith(part)]
            assert still
            assert all(still) == (epoch < k + 2), (epoch, part)
    assert model.frozen == ()
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ConfigError, match=r"would start to train in epoch 11 of fit\.epochs=6"):
        run("finetune", source, target, "mode.unfreeze=2", epochs=6)


def test_lora_changes_the_named_maps_by_its_rank_and_nothing_else(source: PropertyModel, target: Batches) -> None:
    events: list[dict] = []
    keys = ["mode.rank=2", "mode.maps=[encoder.blocks.1,.*neighbour]"]
    model = run("lora", source, target, *keys, epochs=6, ema=0.9, log=events.append)
    before, after = source.state_dict(), model.state_dict()
    assert {n for n in before if not n.startswith(("heads.", "scalers."))} <= after.keys()
    maps = [f"encoder.blocks.{k}.neighbour.weight" for k in range(3)]
    maps += ["encoder.blocks.1.receiver.weight", "encoder.blocks.1.distance.weight"]
    for name in (n for n in before if not n.startswith(("heads.", "scalers."))):
        if name in maps:
            singular = torch.linalg.svdvals((after[name] - before[name]).double())
            assert singular[1] > 100 * singular[2]
        else:
            assert torch.equal(before[name], after[name]), name
    (report,) = [e for e in events if e["event"] == "load_report"]
    head = model.heads["e_above_hull"].weight.numel() + 1
    factors = sum(2 * sum(before[name].shape) for name in maps)
    assert report["trainable_parameters"] == model.spec["trainable_parameters"] == head + factors
    assert set(report["loaded"]) >= set(maps)
    assert "trainable_parameters" not in edit.copy_of(model).spec
    assert all(type(part).__module__ != "torch.nn.utils.parametrize" for part in model.modules())


def test_lora_starts_as_the_source_and_learns(source: PropertyModel, part: Dataset) -> None:
    same = batches_of(part, seed=9, train_size=50)
    start = run("lora", source, same, "mode.head=keep", epochs=0)
    assert (predict(start, same, "test") == predict(source, same, "test")).all()
    label = same.labels[same.split["train"]].numpy()
    errors = [np.abs(predict(m, same, "train") - label).mean() for m in (start, run("lora", source, same, epochs=20))]
    assert errors[1] < errors[0]
    with pytest.raises(ConfigError, match=r"no linear map has the name 'readout'; use encoder\.embedding"):
        run("lora", source, same, "mode.maps=[readout]")
    with pytest.raises(ConfigError, match=r"mode\.rank=0"):
        run("lora", source, same, "mode.rank=0")


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_every_regressor_serves_from_the_disk(regressor: str, source: PropertyModel, target: Batches, tmp_path) -> None:
    # This law is about squares, and labels with a few far away look like faults to a heavy tail.
    words = {"additive_gp": ["mode.regressor.tail=null"], "random_forest": ["mode.regressor.n_estimators=50"]}
    more = words.get(regressor, [])
    model = run("features", source, target, f"mode/regressor={regressor}", *more, epochs=20, ema=0.0, loss="mse")
    label = target.labels[target.split["train"]].numpy()
    assert ((predict(model, target, "train") - label) ** 2).mean() < 0.95 * label.var()
    assert isinstance(model.heads["e_above_hull"], EstimatorHead) == (
        regressor not in ("ridge", "atom_set", "additive_gp")
    )
    model.spec |= {"quantities": {"e_above_hull": {"unit": "eV/atom"}}}
    checkpoint.save(tmp_path / "model", model)
    back = checkpoint.load(tmp_path / "model")
    np.testing.assert_allclose(predict(back, target, "test"), predict(model, target, "test"), atol=1e-6)
    assert not [f for f in (tmp_path / "model").iterdir() if f.suffix in (".pkl", ".pt", ".joblib")]


@pytest.mark.parametrize("level", ["0", "3", "-1", "[0,1,2,3]", "trunk"])
def test_every_level_can_be_tapped(level: str, source: PropertyModel, target: Batches) -> None:
    assert np.isfinite(predict(run("features", source, target, f"mode.level={level}"), target, "test")).all()


def test_a_set_model_learns_on_levels_and_trains_nothing_below(source: PropertyModel, target: Batches) -> None:
    models = [run("features/atom_set", source, target, f"mode.level={level}", epochs=8) for level in ("1", "[0,1]")]
    for model in models:
        pairs = zip(model.encoder.state_dict().values(), source.encoder.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        sites = model.levels(target.graph("train"))
        graph = target.graph("train")
        rows = model.readout.scale(torch.cat([sites[k] for k in model.readout.levels], dim=1))
        weights = (graph.multiplicity / graph.n_sites()[graph.crystal])[:, None]
        torch.testing.assert_close((weights * rows).sum(0), torch.zeros(rows.shape[1]), atol=1e-3, rtol=0)
        torch.testing.assert_close((weights * rows**2).sum(0), torch.full((rows.shape[1],), 40.0), atol=1e-2, rtol=0)
    assert (predict(models[0], target, "test") != predict(models[1], target, "test")).any()
    with pytest.raises(ConfigError, match=r"mode\.level=trunk has no sites"):
        run("features/atom_set", source, target, "mode.level=trunk")
    with pytest.raises(ConfigError, match="use mean, set2set or both"):
        run("features/atom_set", source, target, "mode.regressor.pools=[sum]")


def test_a_level_that_is_not_there(source: PropertyModel, target: Batches) -> None:
    with pytest.raises(ConfigError, match="use 0 to 3"):
        run("features", source, target, "mode.level=7")
    with pytest.raises(ConfigError, match="trunk, a number"):
        run("features", source, target, "mode.level=last")


def test_a_frozen_encoder_is_run_once(source: PropertyModel, part: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    forward = type(source.encoder).forward
    counted = lambda self, graph: runs.append(graph.n_crystals) or forward(self, graph)  # noqa: E731
    monkeypatch.setattr(type(source.encoder), "forward", counted)
    data = batches_of(part)
    for how in (["mode=freeze"], ["mode=features"], ["mode=features", "mode/regressor=atom_set"]):
        runs.clear()
        mode = config("transfer", *how)["mode"]
        instantiate.call(mode, source, data, a_fit(epochs=5))
        # Once for the table; what is left are the validation rows, of the finished model as it is after loading.
        assert sum(runs) == len(part.store), how
