import pytest
import torch
from support import fresh_model

from tltool.errors import ConfigError
from tltool.model.surgery import low_rank


def test_insert_changes_nothing_and_merge_leaves_the_sum() -> None:
    model = fresh_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    names = low_rank.insert(model, ["trunk", r".*\.receiver"], 3, 6.0)
    assert names == [*(f"encoder.blocks.{k}.receiver" for k in range(3)), "trunk.layers.0"]
    state = {low_rank.plain(k): v for k, v in model.state_dict().items()}
    assert all(torch.equal(v, state[k]) for k, v in before.items())
    layer = model.trunk.layers[0]
    assert torch.equal(layer.weight, before["trunk.layers.0.weight"])
    update = layer.parametrizations.weight[0]
    with torch.no_grad():
        update.up.normal_()
    expected = before["trunk.layers.0.weight"] + 2 * (update.up @ update.down)
    low_rank.merge(model)
    assert model.state_dict().keys() == before.keys()
    torch.testing.assert_close(model.trunk.layers[0].weight.detach(), expected.detach(), rtol=0, atol=0)
    assert torch.equal(model.encoder.blocks[0].receiver.weight, before["encoder.blocks.0.receiver.weight"])


def test_wrong_words() -> None:
    with pytest.raises(ConfigError, match=r"mode\.maps is empty"):
        low_rank.insert(fresh_model(), [], 1, 1.0)
    with pytest.raises(ConfigError, match="no linear map has the name 'heads'"):
        low_rank.insert(fresh_model(), ["heads"], 1, 1.0)
