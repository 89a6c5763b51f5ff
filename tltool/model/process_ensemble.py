"""A weighted mean of Gaussian processes that each see some of the features of every block, as a head.

With a hundred labels the largest marginal likelihood is often that of a process which trusts a few features by chance.
Processes of other features make other mistakes, so that the mean has a smaller error (random subspaces: Ho, IEEE Trans.
Pattern Anal. 20, 832 (1998), doi:10.1109/34.709601). A process counts the less, the larger its leave-one-out error is:
one without the feature that matters counts nothing. Sizes: f features, g of them in a process, c rows to predict.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tltool.errors import ConfigError
from tltool.model.additive_gp import AdditiveGP, ProcessHead
from tltool.model.marginal_likelihood import Floats, Ints
from tltool.model.sklearn_head import FixedHead

_SHARPNESS = 10.0
"""As that of the candidates of mode=auto: a tenth more error than the best lowers the weight by a factor e."""


class ProcessEnsemble(FixedHead):
    """The weighted mean of ``members`` processes as a head: (c, f) -> (c, 1), with no gradient.

    ``widths`` says how many features each block has, in their order; each process sees the ``share`` of the features
    of every block, one at least. ``joint`` and ``linear`` as in ``AdditiveGP``. The buffer ``kept`` (members, g) has
    their columns, ``weights`` (members,) what they count; it sums to one.
    """

    kept: Tensor
    weights: Tensor

    def __init__(
        self,
        dim: int,
        /,
        *,
        widths: dict[str, int],
        joint: list[list[str]],
        members: int,
        share: float,
        linear: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if sum(widths.values()) != dim or members < 1 or not 0 < share <= 1:
            raise ConfigError(f"{members} processes with the share {share} of {dim} features are no ensemble.")
        self.dim, self.widths, self.share = dim, widths, share
        self.kernels: dict[str, Any] = {"joint": joint, "linear": list(linear)}
        few = _few(widths, share)
        made = (ProcessHead(sum(few.values()), widths=few, **self.kernels) for _ in range(members))
        self.processes = nn.ModuleList(made)
        self.register_buffer("kept", torch.zeros((members, sum(few.values())), dtype=torch.int64))
        self.register_buffer("weights", torch.full((members,), 1.0 / members, dtype=torch.float64))

    def made_with(self) -> dict[str, Any]:
        """Return what makes this head again, empty."""
        return {"widths": self.widths, **self.kernels, "members": len(self.processes), "share": self.share}

    def shares(self) -> dict[str, float]:
        """Return the share of each block in the variance of the processes, their weighted mean."""
        found = [process.shares() for process in self.processes]  # type: ignore[operator]
        weights = self.weights.cpu().numpy()
        return {name: float(weights @ [of[name] for of in found]) for name in found[0]}

    def predict(self, inputs: Floats, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Return the mean (c,) for ``inputs`` (c, f), and with ``return_std`` the standard deviation (c,) of a label.

        It contains the noise of the labels and how far the processes are apart.
        """
        weights = self.weights.cpu().numpy()
        found = [
            process.predict(inputs[:, kept], return_std=True) if return_std else process.predict(inputs[:, kept])  # type: ignore[operator]
            for process, kept in zip(self.processes, self.kept.cpu().numpy(), strict=True)
        ]
        if not return_std:
            mean: Floats = weights @ np.stack(found)
            return mean
        means, stds = (np.stack(of) for of in zip(*found, strict=True))
        mean = weights @ means
        return mean, np.sqrt(weights @ (np.square(stds) + np.square(means - mean)))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the means (c, 1)."""
        values = self.predict(hidden.detach().cpu().double().numpy())
        return torch.as_tensor(np.asarray(values), dtype=hidden.dtype, device=hidden.device).reshape(-1, 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        kept = state_dict.get(f"{prefix}kept")
        if isinstance(kept, Tensor) and kept.numel() and (int(kept.min()) < 0 or int(kept.max()) >= self.dim):
            raise ValueError(f"{prefix}kept names a feature beyond {self.dim}")
        super()._load_from_state_dict(state_dict, prefix, *rest)


PROCESSES = (ProcessHead, ProcessEnsemble)
"""The heads that are Gaussian processes."""


def members_of(regressor: AdditiveGP, rows: int, trial: bool = False) -> int:
    """Return how many processes ``regressor`` fits to so many ``rows``."""
    if rows > regressor.ensemble_rows:
        return 1
    return min(regressor.members, regressor.trial_members) if trial else regressor.members


def fitted(
    regressor: AdditiveGP,
    inputs: Floats,
    labels: Floats,
    widths: Mapping[str, int],
    counts: Floats | None = None,
    trial: bool = False,
) -> FixedHead:
    """Return the head that ``regressor`` makes of ``labels`` (n,) and standardised ``inputs`` (n, f).

    ``counts`` as in ``AdditiveGP.fitted``. It is an ensemble if there are few rows and several ``regressor.members``,
    of a ``trial`` ``trial_members`` at most, else one process of all features.
    """
    members = members_of(regressor, len(labels), trial)
    if members == 1:
        return regressor.fitted(inputs, labels, widths, counts)
    head = ProcessEnsemble(
        inputs.shape[1],
        widths=dict(widths),
        joint=[list(names) for names in regressor.joint],
        linear=list(regressor.linear),
        members=members,
        share=regressor.share,
    )
    few = _few(widths, regressor.share)
    for k in range(members):
        kept = _drawn(widths, few, np.random.default_rng([regressor.random_state, k]))
        head.kept[k] = torch.from_numpy(kept)
        head.processes[k] = regressor.fitted(inputs[:, kept], labels, few, counts)
    errors = np.array([process.left_out_error() for process in head.processes])  # type: ignore[operator]
    weights = np.exp(-_SHARPNESS * (errors / max(errors.min(), 1e-300) - 1.0))
    head.weights = torch.from_numpy(weights / weights.sum())
    return head


def empty(dim: int, made_with: Mapping[str, Any]) -> FixedHead:
    """Return the head of ``made_with``, to which a state is loaded."""
    return (ProcessEnsemble if "members" in made_with else ProcessHead)(dim, **made_with)


def _few(widths: Mapping[str, int], share: float) -> dict[str, int]:
    return {name: max(1, round(share * width)) for name, width in widths.items()}


def _drawn(widths: Mapping[str, int], few: Mapping[str, int], rng: np.random.Generator) -> Ints:
    """Return (g,): columns of ``few`` features of each block, drawn without replacement."""
    ends = np.cumsum(list(widths.values()))
    drawn: Sequence[Ints] = [
        np.sort(rng.choice(width, few[name], replace=False)) + (end - width)
        for (name, width), end in zip(widths.items(), ends, strict=True)
    ]
    return np.concatenate(drawn)
