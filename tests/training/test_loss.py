import pytest
import torch

from tltool.errors import ConfigError
from tltool.training.loss import KINDS, loss

NAN = float("nan")


@pytest.mark.parametrize("kind", KINDS)
def test_absent_labels_take_no_part(kind: str) -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 9.0], [5.0, 1.0]], requires_grad=True)
    targets = torch.tensor([[0.5, 2.5], [2.0, NAN], [NAN, NAN]])
    found = loss(kind, values, targets)
    expected = (loss(kind, values[:2, :1], targets[:2, :1]) + loss(kind, values[:1, 1:], targets[:1, 1:])) / 2
    torch.testing.assert_close(found, expected)
    found.backward()
    assert values.grad is not None
    assert values.grad[1, 1] == values.grad[2, 0] == values.grad[2, 1] == 0
    assert torch.isfinite(values.grad).all()


def test_values() -> None:
    values, targets = torch.tensor([[0.0], [0.0]]), torch.tensor([[0.5], [3.0]])
    assert loss("l1", values, targets) == pytest.approx(1.75)
    assert loss("mse", values, targets) == pytest.approx((0.25 + 9) / 2)
    assert loss("huber", values, targets) == pytest.approx((0.125 + 2.5) / 2)
    assert loss("l1", values, torch.full((2, 1), NAN)) == 0
    with pytest.raises(ConfigError, match="l1, mse, huber"):
        loss("l3", values, targets)
