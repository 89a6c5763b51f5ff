"""Scale labels to zero mean and unit standard deviation, with an optional reference value per element.

The labels of a class are probabilities: ``ClassScaler`` stands in the place of its scaler.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tltool.crystal_graph import Graph

_FURTHEST = 5.0
_LEAST = 1e-9  # probability whose logarithm is taken
_STRENGTHS = tuple(10.0**k for k in range(-4, 3))
_FROM_BOUND = 1e-3
"""The logit of a label nearer to a bound than so much of the range is that of the label so far away."""


class Scaler(nn.Module):
    """label = mean + spread * value + sum over sites of reference[element] / number of sites.

    ``mean`` and ``spread`` are scalars and ``reference`` (119,), all in the quantity's unit. Fitted on the training
    split only, and again for every new quantity. A ``logarithmic`` one does this with the natural logarithm of the
    label, which must be positive; predictions are limited to five standard deviations around the mean, so that the
    exponential does not diverge. One with ``bounds`` does it with the logit, log((label - low) / (high - label)), so
    that predictions stay between the bounds.
    """

    mean: Tensor
    spread: Tensor
    reference: Tensor
    width = 1

    def __init__(self, logarithmic: bool = False, bounds: tuple[float, float] | None = None) -> None:
        super().__init__()
        self.logarithmic, self.bounds = logarithmic, bounds
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("reference", torch.zeros(119))

    def to_label(self, value: Tensor, graph: Graph) -> Tensor:
        """Return labels (c,) in the quantity's unit from network values (c,)."""
        if self.logarithmic or self.bounds:
            value = value.clamp(-_FURTHEST, _FURTHEST)
        return self.plain(self.mean + self.spread * value + self._of_elements(graph))

    def to_value(self, label: Tensor, graph: Graph) -> Tensor:
        """Return network values (c,) from labels (c,); NaN stays NaN."""
        return (self.learnt(label) - self.mean - self._of_elements(graph)) / self.spread

    def learnt(self, label: Tensor) -> Tensor:
        """Return labels on the scale that is learnt: as they are, their logarithms, or their logits."""
        if self.bounds:
            low, high = self.bounds
            share = ((label - low) / (high - low)).clamp(_FROM_BOUND, 1 - _FROM_BOUND)
            return share.log() - (1 - share).log()
        return label.log() if self.logarithmic else label

    def plain(self, learnt: Tensor) -> Tensor:
        """Return the labels of what ``learnt`` gives."""
        if self.bounds:
            low, high = self.bounds
            return low + (high - low) * learnt.sigmoid()
        return learnt.exp() if self.logarithmic else learnt

    def steepness(self, label: Tensor) -> Tensor:
        """Return the derivative of ``learnt`` at each label, as it is away from the bounds."""
        if self.bounds:
            low, high = self.bounds
            share = ((label - low) / (high - low)).clamp(_FROM_BOUND, 1 - _FROM_BOUND)
            return 1 / ((high - low) * share * (1 - share))
        return 1 / label.abs() if self.logarithmic else torch.ones_like(label)

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """Return (c,): the difference of the labels ``one`` and ``other`` (c,) in scaled standard deviations.

        On a logarithmic scale, a label that is not positive gets the largest distance of two predictions. A validation
        row may have such a label, because only training rows decide about the scale.
        """
        if not self.logarithmic:
            return (self.learnt(one) - self.learnt(other)).abs() / float(self.spread)
        apart = (one.log() - other.log()).abs() / float(self.spread)
        return torch.where((one <= 0) | (other <= 0), 2 * _FURTHEST, apart)

    def _of_elements(self, graph: Graph) -> Tensor:
        parts = self.reference.index_select(0, graph.number) * graph.multiplicity
        return parts.new_zeros(graph.n_crystals).index_add(0, graph.crystal, parts) / graph.n_sites()


class ClassScaler(nn.Module):
    """Between network values and the probabilities of the classes ``names``, each (c, w).

    Two classes have one column (w = 1): the log-odds, and the probability of the second one. More have a column each:
    logarithms of unnormalised probabilities, and the probabilities. A label is 1 for its class and 0 for the others.
    """

    logarithmic = False

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.width = len(self.names) if len(self.names) > 2 else 1

    def to_label(self, value: Tensor, graph: Graph | None = None) -> Tensor:
        """Return probabilities (c, w) from network values (c, w)."""
        return value.sigmoid() if self.width == 1 else value.softmax(1)

    def to_value(self, label: Tensor, graph: Graph | None = None) -> Tensor:
        """Return the targets (c, w) of the network for labels (c, w), which are these labels."""
        return label

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """Return (c,): the cross-entropy of probabilities ``one`` and labels ``other`` (c, w)."""
        if self.width == 1:
            return F.binary_cross_entropy(one.clamp(_LEAST, 1 - _LEAST), other, reduction="none")[:, 0]
        return -(other * one.clamp_min(_LEAST).log()).sum(1)


def composition(graph: Graph) -> Tensor:
    """Return (c, 119): the fraction of sites of each element."""
    cells = graph.multiplicity.new_zeros(graph.n_crystals * 119)
    cells = cells.index_add(0, graph.crystal * 119 + graph.number, graph.multiplicity)
    return cells.view(-1, 119) / graph.n_sites()[:, None]


def fit_scaler(
    labels: Tensor,
    fractions: Tensor,
    reference: bool,
    logarithmic: bool,
    minmax: bool = False,
    weights: Tensor | None = None,
    bounds: tuple[float, float] | None = None,
) -> Scaler:
    """Return the scaler of ``labels`` (r,) of the training rows, whose ``composition`` is ``fractions`` (r, 119).

    ``reference`` fits one energy-like value per element by ridge regression, its strength (1e-4 to 100) chosen by
    leave-one-out.
    ``logarithmic`` labels must be positive. ``minmax`` scales the labels to -1 to 1, not to unit standard deviation.
    ``weights`` (r,) say how much each label counts; None for equally much. With ``bounds`` logits are learnt.
    """
    scaler = Scaler(logarithmic, bounds)
    known = torch.isfinite(labels)
    values = scaler.learnt(labels[known].double().cpu())
    counts = torch.ones_like(values) if weights is None else weights[known].double().cpu()
    rest = values
    if reference:
        inputs = fractions[known].double().cpu()
        slopes = _ridge(inputs, values, counts)
        scaler.reference.copy_(slopes)
        rest = values - inputs @ slopes
    low, high = rest.min(), rest.max()
    mean, spread = rest.mean(), rest.std(correction=0)
    if weights is not None:
        share = counts / counts.sum()
        mean = share @ rest
        spread = (share @ (rest - mean).square()).sqrt()
    scaler.mean.copy_((low + high) / 2 if minmax else mean)
    spread = (high - low) / 2 if minmax else spread
    scaler.spread.copy_(spread if spread > 1e-12 else torch.ones(()))
    return scaler


def _ridge(inputs: Tensor, values: Tensor, weights: Tensor) -> Tensor:
    """Return the slopes (f,) of a ridge regression of ``values`` (r,) on ``inputs`` (r, f) with an intercept.

    Its strength is that with the smallest mean square of the leave-one-out errors, weighted by ``weights`` (r,). The
    same as RidgeCV of scikit-learn, whose import would take a second or two of every start.
    """
    share = weights / weights.sum()
    root = weights.sqrt()
    centred = (inputs - share @ inputs) * root[:, None]
    goal = (values - share @ values) * root
    left, singular, right = torch.linalg.svd(centred, full_matrices=False)
    along = left.T @ goal
    best, slopes = math.inf, torch.zeros_like(singular)
    for strength in _STRENGTHS:
        kept = singular**2 / (singular**2 + strength)
        leverage = left**2 @ kept + share  # of the intercept, too
        residual = goal - left @ (kept * along)
        # A row alone is met by the intercept.
        errors = torch.where(leverage < 1, residual / (1 - leverage), 0.0)
        if (error := float(errors.square().mean())) < best:
            best, slopes = error, right.T @ (singular / (singular**2 + strength) * along)
    return slopes
