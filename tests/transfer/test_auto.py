"""What mode=auto looks at, what it chooses, and that it then does just that."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from support import QUOTIENT, a_fit, batches_of, config

from tltool import instantiate
from tltool.data import store
from tltool.data.batches.batches import Batches
from tltool.data.dataset import Dataset
from tltool.data.formats.formulas import composition
from tltool.data.graph import crystal_graphs
from tltool.data.record import Record
from tltool.errors import CheckpointError, ConfigError, NumericError
from tltool.model.property_model import PropertyModel
from tltool.model.surgery import edit
from tltool.training.fit import predict
from tltool.training.saved_model import checkpoint
from tltool.transfer.auto import auto
from tltool.transfer.scratch import scratch

KEYS = {
    "folds": 3, "tolerance": 0.0, "most_members": 4, "without_source": [], "most_rows": {}, "max_seconds": None,
    "max_seconds_per_row": 0.0,
}  # fmt: skip
FEW = [
    *(f"~mode.candidates.{name}" for name in ("levels", "level_1", "corrected", "gentle", "scratch")),
    *(f"mode.candidates.{name}.regressor.members=2" for name in ("descriptors", "process")),
    *(f"mode.candidates.{name}.regressor.trial_members=1" for name in ("descriptors", "process")),
]
"""One candidate of each kind, and quick ones."""


@pytest.fixture(scope="module")
def target(part: Dataset) -> Batches:
    return batches_of(part, ("e_above_hull",), seed=3, train_size=30)


def node(*overrides: str) -> dict:
    return config("transfer", "mode=auto", "mode.folds=3", "mode.max_seconds=null", *overrides)["mode"]


def test_auto_without_tolerance_is_the_best_mode_to_the_bit(source: PropertyModel, target: Batches) -> None:
    events: list[dict] = []
    settings = node(*FEW, "mode.tolerance=0")
    model = instantiate.call(settings, source, target, a_fit(seed=4, log=events.append))
    choice = model.spec["auto"]
    alone = instantiate.call(settings["candidates"][choice["chosen"]], source, target, a_fit(seed=4))
    assert (predict(model, target, "test") == predict(alone, target, "test")).all()
    assert all(torch.equal(v, alone.state_dict()[k]) for k, v in model.state_dict().items())
    assert (choice["folds"], choice["rows"]) == (3, 30)
    assert list(choice["candidates"]) == ["labels", "descriptors", "process", "ridge", "kernel_ridge", "finetune"]
    errors = {name: row["error"] for name, row in choice["candidates"].items() if not row["given_up"]}
    assert choice["chosen"] == min(errors, key=errors.get)
    assert choice["error"] == pytest.approx(errors[choice["chosen"]])
    (logged,) = [event for event in events if event["event"] == "auto"]
    assert logged["chosen"] == choice["chosen"]
    said = " ".join(event["text"] for event in events if event["event"] == "say")
    assert f"Chosen: {choice['chosen']}. {choice['reason']} {choice['source']}" in said
    assert "Without the source it would be" in choice["source"]
    # What the inner fits say is not what the run says.
    assert len([event for event in events if event["event"] == "load_report"]) == 1
    assert "auto" not in edit.copy_of(model).spec


def test_the_mean_of_the_best_survives_the_disk_and_is_a_source(
    source: PropertyModel, target: Batches, tmp_path: Path
) -> None:
    settings = node(*FEW, "~mode.candidates.finetune", "mode.tolerance=0.5", "mode.most_members=3")
    model = instantiate.call(settings, source, target, a_fit(seed=4))
    names = model.spec["auto"]["chosen"].split(" + ")
    assert len(names) == 3
    alone = [instantiate.call(settings["candidates"][name], source, target, a_fit(seed=4)) for name in names]
    shares = model.spec["auto"]["weights"]
    assert list(shares) == names
    assert sum(shares.values()) == pytest.approx(1.0)
    expected = sum(shares[name] * predict(member, target, "test") for name, member in zip(names, alone, strict=True))
    np.testing.assert_allclose(predict(model, target, "test"), expected, rtol=1e-5, atol=1e-6)
    model.spec["quantities"] = {"e_above_hull": {"unit": "eV/atom"}}
    checkpoint.save(tmp_path / "model", model)
    back = checkpoint.load(tmp_path / "model")
    np.testing.assert_allclose(predict(back, target, "test"), expected, rtol=1e-5, atol=1e-6)
    again = instantiate.call(config("transfer", "mode=features")["mode"], back, target, a_fit())
    assert type(again) is PropertyModel
    description = (tmp_path / "model" / "model.yaml").read_text()
    first = f"- {next(iter(shares.values()))}"
    assert first in description
    (tmp_path / "model" / "model.yaml").write_text(description.replace(first, "- 0.99"))
    sums = json.loads((tmp_path / "model" / "manifest.json").read_text())
    sums["model.yaml"] = sha256((tmp_path / "model" / "model.yaml").read_bytes()).hexdigest()
    (tmp_path / "model" / "manifest.json").write_text(json.dumps(sums))
    with pytest.raises(CheckpointError, match="do not fit its members"):
        checkpoint.load(tmp_path / "model")
    other = tmp_path / "model" / f"member-{names[1]}" / "manifest.json"
    other.write_text(other.read_text() + " ")
    with pytest.raises(CheckpointError, match="has changed since"):
        checkpoint.load(tmp_path / "model")


def test_the_source_is_worth_what_candidates_without_it_lack(source: PropertyModel, target: Batches) -> None:
    label = target.labels

    def knows(noise: float):
        def mode(source: PropertyModel, data: Batches, fit) -> PropertyModel:
            model = scratch(source, data, replace(fit, settings=a_fit(epochs=0).settings))
            wrong = noise * torch.randn(label.shape, generator=torch.Generator().manual_seed(0))
            model.forward = lambda graph: (label + wrong)[data.split["test"]][: graph.n_crystals]
            return model

        return mode

    modes = {"with": knows(0.01), "without": knows(1.0)}
    keys = KEYS | {"without_source": ["without"], "folds": 2}
    worth = auto(source, target, a_fit(), candidates=modes, **keys).spec["auto"]["source"]
    assert "(without): the source lowers the error by 99%" in worth
    nothing = auto(source, target, a_fit(), candidates={"with": knows(0.01)}, **keys).spec["auto"]["source"]
    assert "not known" in nothing


def test_labels_of_validation_and_test_rows_do_not_matter(source: PropertyModel, target: Batches) -> None:
    poisoned = target.labels.clone()
    for name in ("val", "test"):
        poisoned[target.split[name]] = 1e6
    settings = node(*FEW)
    found = [
        instantiate.call(settings, source, data, a_fit(select="last", epochs=2)).spec["auto"]["candidates"]
        for data in (target, replace(target, labels=poisoned))
    ]
    clean, other = ({name: row["error"] for name, row in table.items()} for table in found)
    assert clean == other


def test_what_is_clearly_behind_too_slow_or_not_finite_is_given_up(source: PropertyModel, target: Batches) -> None:
    fits: list[str] = []

    def constant(name: str, shift: float, seconds: float = 0.0):
        def mode(source: PropertyModel, data: Batches, fit) -> PropertyModel:
            fits.append(name)
            model = scratch(source, data, replace(fit, settings=a_fit(epochs=0).settings))
            with torch.no_grad():
                model.heads["e_above_hull"].bias += shift
                model.heads["e_above_hull"].weight.zero_()
            return model

        return mode

    def broken(source: PropertyModel, data: Batches, fit) -> PropertyModel:
        raise NumericError("The loss was not finite in epoch 1.")

    modes = {"broken": broken, "good": constant("good", 0.0), "bad": constant("bad", 50.0)}
    model = auto(source, target, a_fit(), candidates=modes, **KEYS | {"folds": 5})
    table = model.spec["auto"]["candidates"]
    assert model.spec["auto"]["chosen"] == "good"
    assert table["bad"]["given_up"] == "clearly worse after 2 folds"
    assert "not finite" in table["broken"]["given_up"]
    assert table["broken"]["error"] is None
    assert fits == ["good"] * 5 + ["bad"] * 2 + ["good"]
    short = auto(source, target, a_fit(), candidates=modes, **KEYS | {"max_seconds": 0.0})
    assert "3 folds need about" in short.spec["auto"]["candidates"]["bad"]["given_up"]
    assert short.spec["auto"]["chosen"] == "good"
    with pytest.raises(NumericError, match="No candidate"):
        auto(source, target, a_fit(), candidates={"broken": broken}, **KEYS)


def test_a_candidate_that_is_too_slow_ends_in_the_middle_of_a_fold(source: PropertyModel, target: Batches) -> None:
    epochs: list[int] = []

    def slow(source: PropertyModel, data: Batches, fit) -> PropertyModel:
        def log(event: dict) -> None:
            epochs.append(event.get("epoch", 0))
            fit.log(event)

        return scratch(source, data, replace(fit, settings=a_fit(epochs=100_000).settings, log=log))

    modes = {"quick": lambda source, data, fit: scratch(source, data, fit), "slow": slow}
    model = auto(source, target, a_fit(epochs=1), candidates=modes, **KEYS | {"max_seconds": 20.0})
    row = model.spec["auto"]["candidates"]["slow"]
    assert model.spec["auto"]["chosen"] == "quick"
    assert "3 folds need about" in row["given_up"]
    assert (row["folds"], row["error"]) == (0, None)
    assert max(epochs) < 10_000


def test_a_candidate_is_left_out_with_more_rows_than_it_takes(source: PropertyModel, target: Batches) -> None:
    said: list[str] = []
    fit = replace(a_fit(epochs=1), log=lambda event: said.append(event.get("text", "")))
    settings = node(*FEW, "mode.most_rows.descriptors=29", "+mode.most_rows.ridge=30")
    model = instantiate.call(settings, source, target, fit)
    assert "descriptors" not in model.spec["auto"]["candidates"]
    assert "ridge" in model.spec["auto"]["candidates"]
    assert any("too many training rows for descriptors" in text for text in said)
    with pytest.raises(ConfigError, match="excludes every candidate"):
        auto(source, target, fit, candidates={"ridge": scratch}, **KEYS | {"most_rows": {"ridge": 9}})


def test_what_these_data_or_this_source_do_not_allow_is_passed_over(source: PropertyModel) -> None:
    texts = [f"{metal}{n}O{k}" for metal in ("Li", "Na", "Mg", "Ca", "Ti") for n in (1, 2) for k in (1, 2, 2.5)]
    records = store.gather([Record(f"r{n}", composition(t, ""), {"gap": n / 9}) for n, t in enumerate(texts)], {})
    table = crystal_graphs.build([records.crystal(n) for n in range(len(texts))], QUOTIENT)
    model = instantiate.call(node(), source, batches_of(Dataset(records, table), ("gap",)), a_fit(epochs=1))
    choice = model.spec["auto"]
    assert set(choice["chosen"].split(" + ")) <= {"process", "ridge"}
    given_up = {name: row["given_up"] for name, row in choice["candidates"].items() if row["given_up"]}
    assert set(choice["candidates"]) - set(given_up) == {"process", "ridge"}
    assert all("are formulas" in why for why in given_up.values())


def test_wrong_settings_are_named(source: PropertyModel, target: Batches) -> None:
    with pytest.raises(ConfigError, match=r"mode\.candidates is empty"):
        auto(source, target, a_fit(), candidates={}, **KEYS)
    with pytest.raises(ConfigError, match=r"mode\.folds=1"):
        auto(source, target, a_fit(), candidates={"a": scratch}, **KEYS | {"folds": 1})
    few = replace(target, split={**target.split, "train": target.split["train"][:3]})
    with pytest.raises(ConfigError, match="needs at least 4 training rows"):
        auto(source, few, a_fit(), candidates={"a": scratch}, **KEYS)
    tiny = replace(target, split={**target.split, "train": target.split["train"][:5]})
    model = instantiate.call(node("mode.folds=50", *FEW), source, tiny, a_fit(epochs=1))
    assert model.spec["auto"]["folds"] == 5
    assert np.isfinite(predict(model, tiny, "test")).all()


def test_a_trial_of_processes_says_what_the_kept_ones_take_longer(source: PropertyModel, target: Batches) -> None:
    settings = node("mode.candidates.level_1.regressor.members=6", "mode.candidates.level_1.regressor.trial_members=2")
    events: dict[bool, list[float]] = {}
    for trial in (True, False):
        found: list[dict] = []
        fit = replace(a_fit(log=found.append), trial=trial)
        instantiate.call(settings["candidates"]["level_1"], source, target, fit)
        events[trial] = [event["seconds"] for event in found if event["event"] == "kept_takes_longer"]
    assert events[False] == []
    (longer,) = events[True]
    assert longer > 0
