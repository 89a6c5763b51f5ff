import pytest
from hydra.errors import HydraException
from support import config

from tltool import instantiate
from tltool.command_line.composition import sentence
from tltool.errors import ConfigError
from tltool.model.readouts.pool import Pool
from tltool.renamed import RENAMED, brought_up, renamed

PLACE_OF = {
    "tltool.data.folds.matbench": "split",
    "tltool.data.materials_project.fetch": "fetch",
    "tltool.model.atom_set.AtomSet": "readout",
    "tltool.model.attention_pool.AttentionPool": "readout",
    "tltool.model.beside.Beside": "readout",
    "tltool.model.readouts.concatenated.Beside": "readout",
    "tltool.model.estimator.Standardise": "trunk",
    "tltool.model.mlp.Trunk": "trunk",
    "tltool.model.readout.Pool": "readout",
    "tltool.model.set2set.Set2Set": "readout",
    "tltool.training.adamw.AdamW": "optimiser",
}


@pytest.mark.parametrize("old", PLACE_OF)
def test_an_old_name_is_refused_with_the_new_one_which_works(old: str) -> None:
    place = PLACE_OF[old]
    new = renamed(old)
    assert new is not None
    with pytest.raises(
        ConfigError, match=rf"^{place}\._target_='{old}' has been called {new.name} since tltool 0\.1\.0"
    ):
        instantiate.locate(old, (), place)
    assert callable(instantiate.locate(new.name, (), place))


def test_every_old_name_is_tried() -> None:
    assert {old if old in RENAMED else old.rpartition(".")[0] for old in PLACE_OF} == RENAMED.keys()


def test_a_name_of_today_is_not_renamed() -> None:
    for name in ("torch.optim.AdamW", "tltool.data.materials_project.fetch.fetch", "tltool.transfer.lora.lora"):
        assert renamed(name) is None


def test_a_config_of_the_past_is_brought_up() -> None:
    old = {"optimiser": {"_target_": "tltool.training.adamw.AdamW", "lr": 0.1}, "many": [{"_target_": "a.b"}, 1]}
    new = {"optimiser": {"_target_": "torch.optim.AdamW", "lr": 0.1}, "many": [{"_target_": "a.b"}, 1]}
    assert brought_up(old) == new
    old = {"candidates": {"facts": {"beside": ["labels"], "statistics": ["mean", "spread"]}}, "most_rows": {"facts": 9}}
    new = {
        "candidates": {"descriptors": {"extra_features": ["labels"], "statistics": ["mean", "std"]}},
        "most_rows": {"descriptors": 9},
    }
    assert brought_up({"mode": old}) == {"mode": new}
    assert brought_up({"facts": 1, "words": ["spread"]}) == {"facts": 1, "words": ["spread"]}


OLD_KEYS = {
    "mode.beside=[labels]": ("mode=features", "mode.beside", "mode.extra_features"),
    "mode.candidates.labels.beside=[]": (
        "mode=auto",
        "mode.candidates.labels.beside",
        "mode.candidates.labels.extra_features",
    ),
    "mode.candidates.facts.level=[0]": ("mode=auto", "mode.candidates.facts", "mode.candidates.descriptors"),
    "~mode.candidates.facts": ("mode=auto", "mode.candidates.facts", "mode.candidates.descriptors"),
    "mode.most_rows.facts=9": ("mode=auto", "mode.most_rows.facts", "mode.most_rows.descriptors"),
}


@pytest.mark.parametrize("word", OLD_KEYS)
def test_an_old_key_ends_with_the_new_one(word: str) -> None:
    mode, old, new = OLD_KEYS[word]
    with pytest.raises(HydraException) as caught:
        config("transfer", mode, word)
    assert (
        sentence(caught.value, "transfer", [mode, word])
        == f"{old} has been called {new} since tltool 0.1.0; write that."
    )
    config("transfer", mode, word.replace(old, new))


def test_an_old_key_that_is_added_ends_with_the_new_one() -> None:
    with pytest.raises(
        ConfigError, match=r"takes no 'beside'\. beside has been called extra_features since tltool 0\.1\.0"
    ):
        instantiate.bound(config("transfer", "mode=features", "+mode.beside=[labels]")["mode"])


def test_an_old_word_ends_with_the_new_one() -> None:
    with pytest.raises(ConfigError, match=r"use mean, std .*\. spread has been called std since tltool 0\.1\.0"):
        Pool(4, 2, levels=[0], statistics=["spread"])
