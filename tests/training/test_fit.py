import numpy as np
import pytest
import torch
from support import a_fit, batches_of, fresh_model

from tltool.data.dataset import Dataset
from tltool.errors import ConfigError, NumericError, ResourceError
from tltool.model.surgery import edit
from tltool.training import single_fit
from tltool.training.backend import device_called
from tltool.training.fit import Settings, predict, train
from tltool.training.scaled_labels import scalers


def test_training_learns_and_is_reproducible(part: Dataset) -> None:
    data = batches_of(part)
    events: list[dict] = []
    results = []
    for _ in range(2):
        model = fresh_model()
        edit.new_heads(model, scalers(data, reference=False, scale="linear"))
        torch.manual_seed(0)
        edit.renew(model)
        before = np.abs(predict(model, data, "train") - data.labels[data.split["train"]].numpy()).mean()
        trained = train(model, data, a_fit(events.append, epochs=8))
        results.append(predict(model, data, "train"))
    after = np.abs(results[0] - data.labels[data.split["train"]].numpy()).mean()
    assert after < 0.5 * before
    assert (results[0] == results[1]).all()
    kept = [e for e in events if e["event"] == "kept"]
    events = [e for e in events if e["event"] == "epoch"]
    assert [e["epoch"] for e in events] == list(range(1, 9)) * 2
    assert kept == [{"event": "kept", "epoch": trained.best_epoch}] * 2
    assert trained.best_epoch == 1 + int(np.argmin([e["val_MAE"]["e_form"] for e in events[:8]]))


@pytest.mark.parametrize(
    "keys",
    [
        {"schedule": "cosine", "loss": "mse"},
        {"schedule": "constant", "loss": "huber", "clip": None},
        {"schedule": "triangular", "period": 2, "epochs": 4},
        {"ema": 0.9, "select": "last"},
        {"batch_size": 1000},
        {"batch_size": 1, "epochs": 1},
        {"reference": True, "patience": 1, "epochs": 8},
    ],
)
def test_every_setting_trains(part: Dataset, keys: dict) -> None:
    data = batches_of(part, train_size=33)
    model = fresh_model()
    before = {n: p.clone() for n, p in model.named_parameters()}
    edit.new_heads(model, scalers(data, keys.get("reference", False), "linear"))
    train(model, data, a_fit(**keys))
    assert np.isfinite(predict(model, data, "test")).all()
    assert any(not torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before)


def test_weights_and_balance_of_several_quantities(part: Dataset) -> None:
    data = batches_of(part, ("e_form", "e_above_hull"), train_size=16)

    def trained(**keys) -> tuple[np.ndarray, np.ndarray]:
        model = fresh_model(data.quantities)
        torch.manual_seed(0)
        edit.new_heads(model, scalers(data, False, "linear"))
        train(model, data, a_fit(epochs=20, batch_size=8, select="last", ema=0, **keys))
        label = data.labels[data.split["train"]].numpy()
        found = predict(model, data, "train")
        return found, np.abs(found - label).mean(0)

    plain, _ = trained()
    alike, _ = trained(weights={"e_form": 1.0})
    assert (plain == alike).all()
    _, first = trained(weights={"e_form": 100.0})
    _, second = trained(weights={"e_above_hull": 100.0})
    assert first[0] / first[1] < 0.7 * second[0] / second[1]
    balanced, _ = trained(loss_balance="uncertainty", loss="mse")
    assert np.isfinite(balanced).all()
    with pytest.raises(
        ConfigError, match=r"fit\.weights names gap, which is not a quantity of this training; use e_form, e_above_hull"
    ):
        trained(weights={"gap": 2.0})


def test_patience_stops_early_and_best_weights_are_kept(part: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    data = batches_of(part)
    model = fresh_model()
    errors = iter([0.5, 0.3, 0.4, 0.6, 0.7, 0.1])
    states: list[dict] = []

    def scripted(model, data, values=None):
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        return next(errors), {}

    monkeypatch.setattr(single_fit, "validate", scripted)
    trained = train(model, data, a_fit(epochs=6, patience=2))
    assert (trained.epochs, trained.best_epoch) == (4, 2)
    assert all(torch.equal(v, states[1][k]) for k, v in model.state_dict().items())


def test_a_loss_that_is_not_finite_ends_the_run(part: Dataset) -> None:
    data = batches_of(part)
    model = fresh_model()
    with torch.no_grad():
        model.trunk.layers[0].weight[0, 0] = torch.inf
    with pytest.raises(NumericError, match=r"epoch 1; lower optimiser\.lr"):
        train(model, data, a_fit())


def test_without_validation_rows_the_last_weights_count(part: Dataset) -> None:
    data = batches_of(part, val=0.0)
    model = fresh_model()
    assert train(model, data, a_fit()).best_epoch == 3


@pytest.mark.parametrize("largest", [None, 0.5, 100.0])
def test_gradients_are_clipped_as_pytorch_does_it(largest: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (7,), ())]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    mine = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    norm = single_fit.clipped(mine, largest)
    expected = torch.nn.utils.clip_grad_norm_(parameters, np.inf if largest is None else largest)
    assert float(norm) == float(expected)
    assert all(torch.equal(g, p.grad) for g, p in zip(mine, parameters, strict=True) if p.grad is not None)
    assert float(single_fit.clipped([], largest)) == 0


def test_vectors_take_no_weight_decay() -> None:
    model = fresh_model()
    groups = single_fit.groups_of(
        list(model.named_parameters()), 0.1, lambda n: 0.5 if n.startswith("encoder") else 1.0
    )
    assert {g["lr"] for g in groups} == {0.1, 0.05}
    for group in groups:
        decays = "weight_decay" not in group
        assert all((p.ndim > 1) == decays for p in group["params"])
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


def test_triangular_rises_from_a_tenth_of_the_rate_and_falls_again() -> None:
    settings = a_fit(schedule="triangular", period=4, epochs=10).settings
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=2.0)
    schedule = single_fit.schedule_of(settings, optimiser, 30)
    rates = []
    for _ in range(30):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    # Three steps an epoch, all at the rate of the epoch; two cycles and a half.
    assert rates == pytest.approx([2.0 * share for share in [0.1, 0.55, 1.0, 0.55] * 2 + [0.1, 0.55] for _ in range(3)])


def test_every_label_may_count_alike(part: Dataset) -> None:
    data = batches_of(part, ("e_form", "e_above_hull"), train_size=48)
    data.labels[data.split["train"][4:], 1] = torch.nan
    predicted = []
    for how in ("mean", "labels"):
        model = fresh_model(data.quantities)
        torch.manual_seed(0)
        edit.new_heads(model, scalers(data, False, "linear"))
        train(model, data, a_fit(loss_balance=how, epochs=4))
        predicted.append(np.abs(predict(model, data, "train") - data.labels[data.split["train"]].numpy()))
    # The four labels of the second quantity count as four of 52, and the 48 of the first gain.
    assert np.nanmean(predicted[1][:, 0]) < np.nanmean(predicted[0][:, 0])


def test_wrong_settings() -> None:
    good = vars(a_fit().settings)
    for key, value in (
        ("epochs", -1),
        ("batch_size", 0),
        ("schedule", "steps"),
        ("select", "first"),
        ("weights", {"gap": 0.0}),
        ("loss_balance", "x"),
        ("scale", "x"),
    ):
        with pytest.raises(ConfigError, match=key):
            Settings(**good | {key: value})
    with pytest.raises(ConfigError, match="learns the weights"):
        Settings(**good | {"weights": {"gap": 2.0}, "loss_balance": "uncertainty"})
    with pytest.raises(ConfigError, match="gives every label the same weight"):
        Settings(**good | {"weights": {"gap": 2.0}, "loss_balance": "labels"})
    for period in (None, 1):
        with pytest.raises(ConfigError, match=r"triangular needs a fit\.period"):
            Settings(**good | {"schedule": "triangular", "period": period})
    with pytest.raises(ResourceError, match="device=cuda:99"):
        device_called("cuda:99")
    assert device_called("auto").type in ("cpu", "cuda")
