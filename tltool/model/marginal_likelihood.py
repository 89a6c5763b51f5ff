"""Hyper-parameters of a Gaussian process with one kernel per block of features, by its marginal likelihood.

The covariance of two rows is the sum over blocks of amplitude * k(r / length) with the Matern 3/2 kernel k(t) = (1 +
sqrt(3) t) exp(-sqrt(3) t), and r the root mean square difference of the block's features. A linear kernel is amplitude
* (1 + the mean product of the features) instead, and has an infinite length: the label is a constant and a weighted
sum of them. Formulas are those of Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eqs. 2.25,
2.26, 5.9, and section 4.2.2. Sizes: n rows, b blocks, m further rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tltool import interruption

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ROOT3 = float(np.sqrt(3.0))
_JITTER = 1e-8
_LEAST_SHARE = 1e-3
_ROWS = 64
_SEARCH, _PRECISE = 60, 1e-5
"""Steps of a search, and the relative change of the likelihood below which it ends."""
# Natural logarithms of what is allowed; a length is in standard deviations of a feature.
_AMPLITUDE, _LENGTH, _NOISE = (-12.0, 9.0), (-2.5, 7.0), (-10.0, 1.0)
# A wide log-normal prior on lengths: a block that says nothing has no length by itself.
_PRIOR_MEAN, _PRIOR_STD = 1.0, 3.0


class Kernels(NamedTuple):
    """``amplitude`` (b,) and ``length`` (b,) of each block, and the ``noise``: variances in those of the labels.

    The length of a linear kernel is infinite.
    """

    amplitude: Floats
    length: Floats
    noise: float


def distances(one: Floats, other: Floats) -> Floats:
    """Return (n, m): the root mean square difference of the features of rows (n, f) and (m, f)."""
    square = one @ other.T
    square *= -2.0
    square += (one**2).sum(1)[:, None]
    square += (other**2).sum(1)[None, :]
    np.maximum(square, 0.0, out=square)
    square /= one.shape[1]
    return np.sqrt(square, out=square)


def products(one: Floats, other: Floats) -> Floats:
    """Return (n, m): one more than the mean product of the features of rows (n, f) and (m, f)."""
    found: Floats = one @ other.T / one.shape[1] + 1.0
    return found


def covariance(kernels: Kernels, one: Floats, other: Floats, columns: Sequence[Sequence[int]]) -> Floats:
    """Return (n, m): the covariance of rows (n, f) and (m, f), whose block k are the ``columns[k]``."""
    total = np.zeros((len(one), len(other)))
    symmetric = one is other
    used = [k for k, amplitude in enumerate(kernels.amplitude) if amplitude > 0]
    # Some rows at a time, so that what is made of them stays in the processor's cache.
    for first in range(0, len(one), _ROWS):
        piece = slice(first, first + _ROWS)
        # Of a symmetric matrix the lower half is enough.
        beside = slice(0, min(first + _ROWS, len(one)) if symmetric else len(other))
        for k in used:
            if np.isinf(kernels.length[k]):
                given = products(one[piece, columns[k]], other[beside, columns[k]])
                total[piece, beside] += kernels.amplitude[k] * given
                continue
            scaled = distances(one[piece, columns[k]], other[beside, columns[k]])
            scaled *= _ROOT3 / kernels.length[k]
            decay = np.exp(-scaled)
            scaled += 1.0
            scaled *= decay
            scaled *= kernels.amplitude[k]
            total[piece, beside] += scaled
        if symmetric:
            total[:first, piece] = total[piece, :first].T
    return total


def variance(kernels: Kernels, rows: Floats, columns: Sequence[Sequence[int]]) -> Floats:
    """Return (n,): the prior variance of each of ``rows`` (n, f), the diagonal of its ``covariance``."""
    straight = np.isinf(kernels.length)
    found: Floats = np.full(len(rows), kernels.amplitude[~straight].sum())
    for amplitude, linear, of in zip(kernels.amplitude, straight, columns, strict=True):
        if linear:
            found += amplitude * (1.0 + np.square(rows[:, of]).mean(axis=1))
    return found


def maximised(
    blocks: Sequence[Floats],
    labels: Floats,
    weights: Floats,
    restarts: int,
    seed: int,
    nearby: Kernels | None = None,
    linear: int = 0,
) -> Kernels:
    """Return the kernels of largest marginal likelihood for ``labels`` (n,), of mean 0 and variance 1.

    ``blocks`` are the ``distances`` (n, n) in each block, but the last ``linear`` of them are ``products``, for linear
    kernels; ``weights`` (n,) are the factors on the noise of the rows. The search starts from kernels ``nearby``, else
    from equal amplitudes, and ``restarts`` times from random ones. A block that is left with less than a thousandth of
    the variance gets the amplitude zero.
    """
    from scipy.optimize import minimize

    b, rng = len(blocks), np.random.default_rng(seed)
    curved = b - linear
    start = np.r_[np.full(b, -np.log(b)), np.full(curved, np.log(2.0)), np.log(0.1)]
    if nearby is not None:
        with np.errstate(divide="ignore"):
            start = np.log(np.r_[nearby.amplitude, nearby.length[:curved], nearby.noise])
    starts = [start, *(start + rng.normal(0.0, [1.0] * (b + curved) + [1.5]) for _ in range(restarts))]
    bounds = [*[_AMPLITUDE] * b, *[_LENGTH] * curved, _NOISE]
    inner = [(low + 1e-6, high - 1e-6) for low, high in bounds]
    lower = np.tril_indices(len(labels))
    packed = [np.ascontiguousarray(of[lower]) for of in blocks]
    found = [
        minimize(
            _negative,
            np.clip(given, *np.transpose(inner)),
            (packed, lower, labels, weights),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": _SEARCH, "ftol": _PRECISE},
        )
        for given in starts
    ]
    best = np.exp(min(found, key=lambda result: float(result.fun)).x)
    amplitude, length, noise = best[:b], np.r_[best[b:-1], np.full(linear, np.inf)], float(best[-1])
    return Kernels(np.where(_shares(amplitude, length, blocks) > _LEAST_SHARE, amplitude, 0.0), length, noise)


def _shares(amplitude: Floats, length: Floats, blocks: Sequence[Floats]) -> Floats:
    """Return (b,): the variance that each block gives to the differences of rows, as a share of that of all."""
    varies = np.array(
        [
            np.trace(of) / len(of) - of.mean() if np.isinf(ell) else 1.0 - _matern(of, ell).mean()
            for of, ell in zip(blocks, length, strict=True)
        ]
    )
    given: Floats = amplitude * varies
    return given / max(float(given.sum()), 1e-300)


def _matern(distance: Floats, length: float) -> Floats:
    scaled = distance * (_ROOT3 / length)
    found: Floats = (1.0 + scaled) * np.exp(-scaled)
    return found


def _negative(
    logs: Floats, blocks: Sequence[Floats], lower: tuple[Ints, Ints], labels: Floats, weights: Floats
) -> tuple[float, Floats]:
    """Return minus the logarithm of marginal likelihood times prior, and its gradient in ``logs``.

    ``blocks`` are the distances of the pairs of rows at the indices ``lower`` of the triangle (n (n + 1) / 2,): the
    matrices are symmetric, so half of each is enough. ``logs`` has their amplitudes, as many lengths as blocks are not
    linear, and the noise.
    """
    from scipy.linalg import LinAlgError, cho_solve, cholesky, lapack

    interruption.check()
    b, n, curved = len(blocks), len(labels), len(logs) - 1 - len(blocks)
    values = np.exp(logs)
    noise = values[-1] * weights
    sums = np.zeros(len(lower[0]))
    in_amplitude, in_length = [], []
    for amplitude, length, distance in zip(values[:curved], values[b:-1], blocks[:curved], strict=True):
        scaled = distance * (_ROOT3 / length)
        decay = np.exp(-scaled)
        decay *= amplitude
        # (1 + t) exp(-t), and its slope in the logarithm of the length, t**2 exp(-t).
        slope = decay * scaled
        in_amplitude.append(decay)
        decay += slope
        slope *= scaled
        in_length.append(slope)
        sums += decay
    for amplitude, product in zip(values[curved:b], blocks[curved:], strict=True):
        in_amplitude.append(amplitude * product)
        sums += in_amplitude[-1]
    total = np.zeros((n, n))
    total[lower] = sums
    total[np.diag_indices(n)] += noise + _JITTER
    try:
        factor = cholesky(total, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return 1e10, np.zeros_like(logs)
    solved = cho_solve((factor, True), labels, check_finite=False)
    logarithm = float(np.log(np.diag(factor)).sum())
    inner = lapack.dpotri(factor, lower=1)[0]
    diagonal = np.diag(inner) - solved**2
    # Each pair of different rows stands for two entries.
    pairs = 2.0 * (inner[lower] - solved[lower[0]] * solved[lower[1]])
    pairs[lower[0] == lower[1]] = diagonal
    slopes = [0.5 * float(pairs @ of) for of in (*in_amplitude, *in_length)]
    gradient = np.array([*slopes, 0.5 * float(diagonal @ noise)])
    value = 0.5 * float(labels @ solved) + logarithm + 0.5 * n * np.log(2.0 * np.pi)
    away = (logs[b:-1] - _PRIOR_MEAN) / _PRIOR_STD
    gradient[b:-1] += away / _PRIOR_STD
    return value + 0.5 * float(away @ away), gradient
