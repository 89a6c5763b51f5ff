import pytest
import torch

from tltool.errors import ConfigError
from tltool.training.loss import KINDS, Group, balanced, by_quantity, loss, of_labels

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


@pytest.mark.parametrize("kind", KINDS)
def test_of_labels_counts_an_absent_label_as_no_error(kind: str) -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 9.0], [5.0, 1.0]], requires_grad=True)
    targets = torch.tensor([[0.5, 2.5], [2.0, NAN], [NAN, NAN]])
    found = of_labels(kind, values, targets)
    # Three labels in two rows with one; the third row, which pads a batch, has none.
    one_by_one = [loss(kind, values[r : r + 1, q : q + 1], targets[r : r + 1, q : q + 1]) for r, q in
                  ((0, 0), (0, 1), (1, 0))]  # fmt: skip
    torch.testing.assert_close(found, torch.stack(one_by_one).sum() / 4)
    found.backward()
    assert values.grad is not None
    assert values.grad[1, 1] == values.grad[2, 0] == values.grad[2, 1] == 0
    assert of_labels(kind, values, torch.full((3, 2), NAN)) == 0


def test_values() -> None:
    values, targets = torch.tensor([[0.0], [0.0]]), torch.tensor([[0.5], [3.0]])
    assert loss("l1", values, targets) == pytest.approx(1.75)
    assert loss("mse", values, targets) == pytest.approx((0.25 + 9) / 2)
    assert loss("huber", values, targets) == pytest.approx((0.125 + 2.5) / 2)
    assert loss("l1", values, torch.full((2, 1), NAN)) == 0
    with pytest.raises(ConfigError, match="l1, mse, huber"):
        loss("l3", values, targets)


def test_weights_make_it_a_weighted_mean_over_the_quantities_that_are_there() -> None:
    values = torch.zeros(2, 3)
    targets = torch.tensor([[1.0, 2.0, NAN], [3.0, NAN, NAN]])
    assert loss("l1", values, targets, torch.tensor([1.0, 3.0, 100.0])) == pytest.approx((2 + 3 * 2) / 4)
    assert loss("l1", values, targets, torch.ones(3)) == loss("l1", values, targets)
    assert loss("l1", values, torch.full((2, 3), NAN), torch.ones(3)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_balance_is_best_where_the_scale_is_that_of_the_noise(kind: str) -> None:
    targets = torch.tensor([[0.1, 0.9], [-0.3, NAN]])
    means, there = by_quantity(kind, torch.zeros(2, 2), targets)
    best = means if kind == "l1" else means * (1 if kind == "mse" else 2)
    log_scales = best.log().requires_grad_()
    balanced(kind, means, there, log_scales).backward()
    torch.testing.assert_close(log_scales.grad, torch.zeros(2))
    # A quantity that is not there neither counts nor learns its scale.
    means, there = by_quantity(kind, torch.zeros(2, 2), torch.tensor([[0.1, NAN], [0.2, NAN]]))
    log_scales = torch.tensor([0.5, 9.0], requires_grad=True)
    balanced(kind, means, there, log_scales).backward()
    assert log_scales.grad is not None
    assert log_scales.grad[1] == 0


def test_classes_have_the_cross_entropy_and_numbers_their_own_loss() -> None:
    torch.manual_seed(0)
    values = torch.randn(4, 5, requires_grad=True)
    groups = (Group(slice(0, 1), False), Group(slice(1, 4), True), Group(slice(4, 5), True))
    targets = torch.tensor([[0.5, 0, 1, 0, 1], [NAN, 1, 0, 0, 0], [1.0, NAN, NAN, NAN, NAN], [NAN, NAN, NAN, NAN, 1.0]])
    means, there = by_quantity("mse", values, targets, groups)
    several = torch.nn.functional.cross_entropy(values[:2, 1:4], torch.tensor([1, 0]))
    rows = torch.tensor([0, 1, 3])
    two = torch.nn.functional.binary_cross_entropy_with_logits(values[rows, 4], targets[rows, 4])
    number = loss("mse", values[:, :1], targets[:, :1])
    torch.testing.assert_close(means, torch.stack([number, several, two]))
    assert there.tolist() == [1, 1, 1]
    torch.testing.assert_close(loss("mse", values, targets, None, groups), means.mean())
    torch.testing.assert_close(
        of_labels("mse", values, targets, groups), (2 * number + 2 * several + 3 * two) / (4 * 3)
    )
    means.sum().backward()
    assert values.grad is not None
    assert (values.grad[2, 1:] == 0).all()
    assert torch.isfinite(values.grad).all()
