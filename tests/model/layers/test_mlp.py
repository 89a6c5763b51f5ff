import pytest
import torch

from tltool.errors import ConfigError
from tltool.model.layers.mlp import Dense, Residual
from tltool.model.surgery.edit import renew


@pytest.fixture
def rows() -> torch.Tensor:
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


def test_dense_without_a_width_is_the_embedding_itself(rows: torch.Tensor) -> None:
    trunk = Dense(6, widths=[])
    assert (trunk.dim, list(trunk.parameters())) == (6, [])
    assert torch.equal(trunk(rows), rows)


def test_dense_is_maps_with_a_softplus_after_each(rows: torch.Tensor) -> None:
    trunk = Dense(6, widths=[4, 3])
    one, two = trunk.layers
    expected = torch.log1p(torch.exp(two(torch.log1p(torch.exp(one(rows))))))
    torch.testing.assert_close(trunk(rows), expected)
    assert trunk(rows).shape == (5, trunk.dim) == (5, 3)


@pytest.mark.parametrize("rezero", [True, False])
def test_residual_adds_each_layer_to_a_map_of_what_it_reads(rows: torch.Tensor, rezero: bool) -> None:
    trunk = Residual(6, widths=[4, 4], rezero=rezero)
    assert [type(skip) for skip in trunk.skips] == [torch.nn.Linear, torch.nn.Identity]
    if trunk.share is not None:
        with torch.no_grad():
            trunk.share.copy_(torch.tensor([0.5, 2.0]))
    shares = (0.5, 2.0) if rezero else (1.0, 1.0)
    hidden = shares[0] * trunk.layers[0](rows).relu() + rows @ trunk.skips[0].weight.T
    expected = shares[1] * trunk.layers[1](hidden).relu() + hidden
    torch.testing.assert_close(trunk(rows), expected)
    assert trunk.dim == 4


def test_rezero_begins_with_the_skips_alone_afresh_too(rows: torch.Tensor) -> None:
    trunk = Residual(6, widths=[6, 6], rezero=True)
    assert torch.equal(trunk(rows), rows)
    with torch.no_grad():
        trunk.share.fill_(1.0)
    assert not torch.equal(trunk(rows), rows)
    renew(trunk)
    assert torch.equal(trunk(rows), rows)


@pytest.mark.parametrize("kind", [lambda: Dense(6, widths=[0]), lambda: Residual(6, widths=[4, -1], rezero=True)])
def test_a_width_below_one_is_refused(kind) -> None:
    with pytest.raises(ConfigError, match="must be 1 or more"):
        kind()
