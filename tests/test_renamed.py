import pytest

from tltool import instantiate
from tltool.errors import ConfigError
from tltool.renamed import RENAMED, brought_up, renamed

PLACE_OF = {
    "tltool.data.folds.matbench": "split",
    "tltool.data.materials_project.fetch": "fetch",
    "tltool.model.atom_set.AtomSet": "readout",
    "tltool.model.attention_pool.AttentionPool": "readout",
    "tltool.model.beside.Beside": "readout",
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
