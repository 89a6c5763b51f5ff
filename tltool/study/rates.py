"""How long trainings take that were never measured here: rates of a reference machine, and how fast this one is.

A rate belongs to one thread. ``speed`` compares the machine on which the rates were measured with this one by a piece
of work like that of an encoder.
"""

import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

START = 6.0
"""Seconds of a pretraining besides its epochs: reading prepared data, test errors and the saved model."""


class Rate(NamedTuple):
    """Milliseconds for a crystal and an epoch: of a ``pretraining``, and of a ``transfer`` with small batches."""

    pretraining: float
    transfer: float


_RATES: Mapping[str, Rate] = {
    "CGCNN": Rate(0.5, 0.4),
    "MEGNet": Rate(2.5, 2.0),
    "ALIGNN of 2 + 2 blocks of 64": Rate(5.5, 4.0),
}
"""Encoder, of published sizes unless they are said -> its rate.

Processor time of pretrainings on ``mp36k`` and of stacked transfers to GLLB-SC gaps (CGCNN) or one to elastic moduli
(MEGNet), on one core of a virtual machine that was busy otherwise. A pretraining with MEGNet was not measured: its rate
is to that of a transfer as for CGCNN. The rate of ALIGNN is from a pretraining of 941 crystals and from
transfers with 50 phonon frequencies, both in batches of 16. Its other sizes were not measured.
"""
_REGRESSORS: Mapping[str, tuple[float, float]] = {
    "RidgeCV": (0.6, 0.001),
    "SetModel": (1.0, 0.09),
    "AdditiveGP": (3.0, 0.05),
}
"""Regressor of ``mode=features`` -> seconds of a cell, and more for each training row, on the same machine."""
_REFERENCE = 0.11
"""Seconds of the piece of work of ``_piece`` where the rates were measured."""


class Past(NamedTuple):
    """A pretraining that was done: crystals times epochs, and its seconds."""

    work: float
    seconds: float


@cache
def speed() -> float:
    """Return how many times longer than on the reference machine a piece of work takes here: the least of five."""
    return min(_piece() for _ in range(5)) / _REFERENCE


def _piece() -> float:
    """Return the processor seconds of linear maps, gathers and sums over neighbours of the size of a batch."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        draws = torch.Generator().manual_seed(0)
        sites, weight = torch.randn(1_000, 64, generator=draws), torch.randn(128, 128, generator=draws)
        ends = torch.randint(1_000, (2, 12_000), generator=draws)
        began = time.process_time()
        for _ in range(5):
            message = torch.tanh(torch.cat([sites[ends[0]], sites[ends[1]]], 1) @ weight)
            torch.zeros(1_000, 128).index_add_(0, ends[0], message)
        return time.process_time() - began
    finally:
        torch.set_num_threads(threads)


def encoder(node: Mapping[str, Any]) -> str:
    """Return the name of the encoder of a config or a saved model, of ALIGNN with its sizes; empty if there is none."""
    name = str(node.get("_target_") or node.get("part") or "").rpartition(".")[2]
    if name != "ALIGNN":
        return name
    return f"{name} of {node.get('line_blocks')} + {node.get('blocks')} blocks of {node.get('dim')}"


def of_pretraining(work: float, name: str, past: Sequence[Past]) -> float | None:
    """Return the seconds of a pretraining of ``work`` crystals times epochs; None for an encoder without a rate.

    ``past`` are others with the same encoder on this machine: the one nearest in work counts, in proportion.
    """
    if past:
        nearest = min(past, key=lambda one: abs(one.work - work))
        return START + max(nearest.seconds - START, 0.0) * work / nearest.work
    return START + work * _RATES[name].pretraining / 1000 * speed() if name in _RATES else None


def of_cell(rows: int, mode: Mapping[str, Any], epochs: int, name: str) -> float:
    """Return the seconds of a transfer with ``rows`` training rows by the rates; ``mode`` and ``epochs`` of its config.

    Modes that train have the rate of their encoder, ``features`` the time of their regressor, and ``auto`` that of its
    usual candidates.
    """
    if str(mode.get("_target_")).endswith(".auto"):
        return (8.0 + 0.15 * rows) * speed()
    if "regressor" in mode:
        start, row = _REGRESSORS.get(encoder(mode["regressor"]), _REGRESSORS["RidgeCV"])
        return (start + row * rows) * speed()
    return 0.5 + rows * epochs * _rate(name).transfer / 1000 * speed()


def _rate(name: str) -> Rate:
    """Return the rate of an encoder; of one without a rate that of another size of it, or else that of CGCNN."""
    like = [rate for known, rate in _RATES.items() if known.partition(" ")[0] == name.partition(" ")[0]]
    return _RATES.get(name) or next(iter(like), _RATES["CGCNN"])
