import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tltool.model import pieces
from tltool.model.norm import WeightedBatchNorm
from tltool.model.norm_silu import norm_silu

pytestmark = pytest.mark.usefixtures("double")


def outcome(written_out: bool, training: bool, residual: bool, frozen: bool = False) -> list[Tensor]:
    """Result, gradients of inputs and parameters, and statistics of two steps."""
    torch.manual_seed(0)
    norm = WeightedBatchNorm(4).train(training).requires_grad_(not frozen)
    torch.nn.init.uniform_(norm.mean)
    torch.nn.init.uniform_(norm.scale)
    torch.nn.init.normal_(norm.bias)
    weights = torch.randint(0, 4, (50,)).double()
    rows, beside = (torch.randn(50, 4, requires_grad=True) for _ in range(2))
    found = []
    for _ in range(2):
        if written_out:
            out = norm_silu(rows, weights, norm, beside if residual else None)
        else:
            out = F.silu(norm(rows, weights)) + (beside if residual else 0.0)
        (out * weights[:, None]).square().sum().backward()
        found.append(out.detach())
    gradients = [x.grad for x in (rows, beside, *norm.parameters()) if x.grad is not None]
    return [*found, *gradients, norm.mean, norm.variance]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_it_is_what_automatic_differentiation_makes_of_it(
    training: bool, residual: bool, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "_NUMBERS", 32)
    mine, plain = (outcome(written_out, training, residual, frozen) for written_out in (True, False))
    assert len(mine) == len(plain) == 4 + 1 + residual + 2 * (not frozen)
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
