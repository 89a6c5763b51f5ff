"""A Gaussian process with a kernel for each block of features, as a head on a frozen encoder.

Tens to thousands of labels say how smooth a quantity is in each block, and which blocks say nothing: each has its own
amplitude and length (``marginal_likelihood``). Sizes: n training rows, f features, c rows to predict.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tltool.errors import ConfigError, NumericError
from tltool.model import marginal_likelihood
from tltool.model.marginal_likelihood import Floats, Kernels, covariance, distances, products, variance
from tltool.model.sklearn_head import FixedHead

_FURTHEST = 8.0
"""Standard deviations of a feature, beyond which it counts as so far away."""
_JITTER = 1e-8
_TAIL, _COMPARED = 4.0, 1000
_BUFFERS = ("rows", "solved", "noise", "amplitude", "length", "offset")


class AdditiveGP:
    """The regressor: how a ``ProcessHead`` is fitted.

    ``joint`` lists groups of blocks that also get a kernel together, ``linear`` names blocks that also get a linear
    one (of several sources each has its own: the name may have another before it). Kernels are fitted to ``fit_rows``
    of the training rows and conditioned on ``most_rows`` of them at most; ``restarts`` as in ``marginal_likelihood``.
    ``tail`` are the degrees of freedom of Student's t distribution of the noise, null for normal noise; auto takes 4
    where that has a leave-one-out error that is smaller by more than two standard errors. ``members`` and ``share``
    are those of the ``ProcessEnsemble`` that is fitted to ``ensemble_rows`` or fewer; the trials of mode=auto take
    ``trial_members``.
    """

    def __init__(
        self,
        *,
        joint: list[list[str]],
        linear: list[str],
        fit_rows: int,
        most_rows: int,
        restarts: int,
        tail: float | str | None,
        members: int,
        trial_members: int,
        share: float,
        ensemble_rows: int,
        random_state: int,
    ) -> None:
        known = tail is None or tail == "auto" or (not isinstance(tail, str) and tail > 0)
        if min(members, trial_members) < 1 or not 0 < share <= 1:
            raise ConfigError(
                f"mode.regressor: members={members} and trial_members={trial_members} must be 1 or more, and "
                f"share={share} above 0 and at most 1."
            )
        if fit_rows < 2 or most_rows < fit_rows or restarts < 0 or not known:
            raise ConfigError(
                f"mode.regressor: fit_rows={fit_rows} must be 2 or more, most_rows={most_rows} no fewer, "
                f"restarts={restarts} 0 or more and tail={tail} positive, auto or null."
            )
        self.joint, self.linear, self.fit_rows, self.most_rows = joint, linear, fit_rows, most_rows
        self.restarts, self.tail, self.random_state = restarts, tail, random_state
        self.members, self.trial_members, self.share, self.ensemble_rows = members, trial_members, share, ensemble_rows

    def fitted(
        self, inputs: Floats, labels: Floats, widths: Mapping[str, int], counts: Floats | None = None
    ) -> "ProcessHead":
        """Return one process fitted to ``labels`` (n,) of standardised ``inputs`` (n, f).

        ``widths`` says how many of the features each block has, in their order. ``counts`` (n,) says how much each row
        counts: the variance of its noise is divided by that; None for equally much.
        """
        joint = [list(names) for names in self.joint]
        head = ProcessHead(inputs.shape[1], widths=dict(widths), joint=joint, linear=list(self.linear))
        columns, straight = list(head.blocks.values()), head.straight
        order = np.random.default_rng(self.random_state).permutation(len(labels))[: self.most_rows]
        rows, labels = np.clip(inputs[order], -_FURTHEST, _FURTHEST), labels[order]
        counts = np.ones(len(order)) if counts is None else counts[order]
        share, factors = counts / counts.sum(), 1.0 / counts
        centre = float(share @ labels)
        scale = float(np.sqrt(share @ (labels - centre) ** 2))
        goals = (labels - centre) / (scale if scale > 0 else 1.0)
        tail, kernels = self._chosen(rows, goals, columns, straight, factors)
        prior = covariance(kernels, rows, rows, columns)
        head.condition(kernels, rows, goals, _weights(tail, kernels, prior, goals, factors), (centre, scale), prior)
        return head

    def _chosen(
        self, rows: Floats, goals: Floats, columns: Sequence[Sequence[int]], straight: int, factors: Floats
    ) -> tuple[float | None, Kernels]:
        """Return the degrees of freedom of the noise and the kernels fitted with it, the last ``straight`` linear.

        ``factors`` (n,) are those on the noise of the rows.
        """
        few, few_goals, few_factors = rows[: self.fit_rows], goals[: self.fit_rows], factors[: self.fit_rows]
        curved = len(columns) - straight
        pairs = [(distances if k < curved else products)(few[:, of], few[:, of]) for k, of in enumerate(columns)]
        fit = partial(marginal_likelihood.maximised, pairs, few_goals, seed=self.random_state, linear=straight)
        normal = fit(few_factors, self.restarts)
        if self.tail is None:
            return None, normal
        tail = _TAIL if isinstance(self.tail, str) else self.tail
        weights, prior = few_factors, covariance(normal, few, few, columns)
        for _ in range(3):
            # By what the other rows say of each: a process that fits every label exactly has no residual.
            solved, diagonal = _inverted(prior, normal.noise * weights, few_goals)
            weights = few_factors * (tail + weights / few_factors * solved**2 / diagonal) / (tail + 1.0)
        heavy = fit(weights, 0, nearby=normal)
        if isinstance(self.tail, str):
            some, of = rows[:_COMPARED], goals[:_COMPARED]
            errors = [
                _left_out(degrees, kernels, covariance(kernels, some, some, columns), of, factors[:_COMPARED])
                for degrees, kernels in ((None, normal), (tail, heavy))
            ]
            better = errors[0] - errors[1]
            if better.mean() <= 2.0 * better.std(ddof=1) / np.sqrt(len(better)):
                return None, normal
        return tail, heavy


class ProcessHead(FixedHead):
    """The conditioned process as a head: (c, f) -> (c, 1), on the CPU in double precision, with no gradient.

    ``widths`` says how many features each block has, in their order; ``joint`` and ``linear`` as in ``AdditiveGP``.
    All that was fitted is in buffers, which take the sizes of what is loaded: ``rows`` (n, f), ``solved`` (n,) the
    weight of each row, its ``noise`` (n,), ``amplitude`` (b,) and ``length`` (b,), and ``offset`` (2,), mean and
    standard deviation of the labels.
    """

    rows: Tensor
    solved: Tensor
    noise: Tensor
    amplitude: Tensor
    length: Tensor
    offset: Tensor

    def __init__(
        self, dim: int, /, *, widths: dict[str, int], joint: list[list[str]], linear: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if sum(widths.values()) != dim or min(widths.values(), default=0) < 1:
            raise ConfigError(f"The blocks of the Gaussian process have {sum(widths.values())} features, not {dim}.")
        self.dim, self.widths, self.joint, self.linear = dim, widths, joint, list(linear)
        self.blocks, self.straight = _columns(widths, joint, linear)
        blocks = self.blocks
        shapes = {"rows": (0, dim), "amplitude": (len(blocks),), "length": (len(blocks),), "offset": (2,)}
        for name in _BUFFERS:
            self.register_buffer(name, torch.zeros(shapes.get(name, (0,)), dtype=torch.float64))
        self._factor: Floats | None = None

    def condition(
        self,
        kernels: Kernels,
        rows: Floats,
        goals: Floats,
        weights: Floats,
        offset: tuple[float, float],
        prior: Floats,
    ) -> None:
        """Take ``kernels`` and condition them on ``goals`` (n,) of ``rows`` (n, f), with the covariance ``prior``."""
        values = {"rows": rows, "amplitude": kernels.amplitude, "length": kernels.length}
        values |= {"noise": kernels.noise * weights, "offset": np.array(offset)}
        for name, value in values.items():
            setattr(self, name, torch.from_numpy(np.ascontiguousarray(value)))
        lower = self._factor = _lower(prior, self.noise.numpy())
        self.solved = torch.from_numpy(_solved(lower.T, _solved(lower, goals), lower=False))

    def left_out_error(self) -> float:
        """Return the mean absolute leave-one-out error on the training rows (Rasmussen and Williams, eq. 5.12)."""
        from scipy.linalg import lapack

        half = lapack.dtrtri(self._lower(), lower=1)[0]
        diagonal = np.einsum("ij,ij->j", half, half)
        return float(np.abs(self.solved.cpu().numpy() / diagonal).mean() * self.offset[1])

    def made_with(self) -> dict[str, Any]:
        """Return what makes this head again, empty."""
        return {"widths": self.widths, "joint": self.joint, "linear": self.linear}

    def shares(self) -> dict[str, float]:
        """Return the share of each block in the variance of the process."""
        total = max(float(self.amplitude.sum()), 1e-300)
        return {name: float(of) / total for name, of in zip(self.blocks, self.amplitude, strict=True)}

    def predict(self, inputs: Floats, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Return the mean (c,) for ``inputs`` (c, f), and with ``return_std`` the standard deviation (c,) of a label.

        That of a label has the noise in it. The first call with it takes the time of a fit.
        """
        inputs = np.clip(inputs, -_FURTHEST, _FURTHEST)
        cross = self._covariance(inputs)
        centre, scale = self.offset.tolist()
        mean: Floats = centre + scale * (cross @ self.solved.cpu().numpy())
        if not return_std:
            return mean
        half = _solved(self._lower(), cross.T)
        known = variance(self._kernels(), inputs, list(self.blocks.values())) - (half**2).sum(0)
        noise = float(self.noise.median()) if len(self.noise) else 0.0
        std: Floats = scale * np.sqrt(np.maximum(known, 0.0) + noise)
        return mean, std

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the means (c, 1)."""
        values = self.predict(hidden.detach().cpu().double().numpy())
        return torch.as_tensor(np.asarray(values), dtype=hidden.dtype, device=hidden.device).reshape(-1, 1)

    def _covariance(self, inputs: Floats) -> Floats:
        return covariance(self._kernels(), inputs, self.rows.cpu().numpy(), list(self.blocks.values()))

    def _kernels(self) -> Kernels:
        return Kernels(self.amplitude.cpu().numpy(), self.length.cpu().numpy(), 0.0)

    def _lower(self) -> Floats:
        if self._factor is None:
            self._factor = _lower(self._covariance(self.rows.cpu().numpy()), self.noise.cpu().numpy())
        return self._factor

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in _BUFFERS:
            value = state_dict.get(f"{prefix}{name}")
            if name in ("rows", "solved", "noise") and isinstance(value, Tensor):
                if value.ndim != (2 if name == "rows" else 1) or len(value) != len(state_dict[f"{prefix}solved"]):
                    raise ValueError(f"{prefix}{name} has the shape {list(value.shape)}, which no process has")
                shape = (len(value), self.dim) if name == "rows" else (len(value),)
                setattr(self, name, getattr(self, name).new_zeros(shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._factor = None


def _columns(
    widths: Mapping[str, int], joint: Sequence[Sequence[str]], linear: Sequence[str]
) -> tuple[dict[str, list[int]], int]:
    """Return the columns that each kernel sees, and how many kernels at the end are linear.

    First come those of the groups of ``joint`` that are there, then each block's, then the linear ones.
    """
    ends = np.cumsum(list(widths.values())).tolist()
    alone = {name: list(range(end - width, end)) for (name, width), end in zip(widths.items(), ends, strict=True)}
    together = {
        "+".join(names): [column for name in names for column in alone[name]]
        for names in joint
        if len(names) > 1 and set(names) <= set(alone)
    }
    straight = {
        f"{name} (linear)": columns
        for name, columns in alone.items()
        if any(name == word or name.endswith(f"_{word}") for word in linear)
    }
    return together | alone | straight, len(straight)


def _weights(tail: float | None, kernels: Kernels, prior: Floats, goals: Floats, factors: Floats) -> Floats:
    """Return (n,): the factor on the noise of each row; for normal noise the ``factors`` (n,) that are given.

    Student's t is normal noise with a factor of its own for each row, which grows with the square of the row's
    residual, averaged over the posterior (Tipping and Lawrence, Neurocomputing 69, 123 (2005), sec. 3).
    """
    weights = factors
    if tail is None:
        return weights
    for _ in range(4 if len(goals) <= _COMPARED else 1):
        noise = kernels.noise * weights
        solved, diagonal = _inverted(prior, noise, goals)
        square = (noise * solved) ** 2 + noise - noise**2 * diagonal
        weights = factors * (tail + square / (kernels.noise * factors)) / (tail + 1.0)
    return weights


def _left_out(tail: float | None, kernels: Kernels, prior: Floats, goals: Floats, factors: Floats) -> Floats:
    """Return (n,): the absolute leave-one-out errors (Rasmussen and Williams, eq. 5.12)."""
    weights = _weights(tail, kernels, prior, goals, factors)
    solved, diagonal = _inverted(prior, kernels.noise * weights, goals)
    found: Floats = np.abs(solved / diagonal)
    return found


def _inverted(prior: Floats, noise: Floats, goals: Floats) -> tuple[Floats, Floats]:
    """Return the inverse of ``prior`` with ``noise`` (n,) on its diagonal: times ``goals`` (n,), and its diagonal."""
    from scipy.linalg import lapack

    lower = _lower(prior, noise)
    solved = _solved(lower.T, _solved(lower, goals), lower=False)
    half = lapack.dtrtri(lower, lower=1, overwrite_c=1)[0]
    diagonal: Floats = np.einsum("ij,ij->j", half, half)
    return solved, diagonal


def _lower(prior: Floats, noise: Floats) -> Floats:
    """Return the Cholesky factor (n, n) of ``prior`` (n, n) with ``noise`` (n,) on its diagonal."""
    from scipy.linalg import LinAlgError, cholesky

    total = prior.copy()
    total[np.diag_indices(len(total))] += noise + _JITTER
    try:
        found: Floats = cholesky(total, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError as error:
        raise NumericError("The covariance of the Gaussian process is not positive; use another regressor.") from error
    return found


def _solved(triangle: Floats, right: Floats, lower: bool = True) -> Floats:
    from scipy.linalg import solve_triangular

    found: Floats = solve_triangular(triangle, right, lower=lower, check_finite=False)
    return found
