"""What has no logarithm is in no part of the split, and is counted and named."""

import numpy as np
from support import QUOTIENT, config

from tltool.data.dataset import Dataset
from tltool.data.graph import crystal_graphs
from tltool.data.record import Crystal, Record
from tltool.data.store import gather
from tltool.training import setup


def test_moduli_without_a_logarithm_are_counted() -> None:
    cube = Crystal(3 * np.eye(3), np.zeros((1, 3)), np.array([29]))
    labels = [{"K_VRH": 100.0 + n} for n in range(40)]
    labels[3], labels[5], labels[7] = {"K_VRH": -12.5}, {"K_VRH": 0.0}, {"gap": 1.0}
    records = gather([Record(f"mp-{n}", cube, each) for n, each in enumerate(labels)], {})
    data = Dataset(records, crystal_graphs.build([cube] * len(labels), QUOTIENT))
    said: list[str] = []
    _, split = setup.split_batches(config("pretrain"), data, ["log10_K_VRH"], said.append)
    assert said == [
        "3 of 40 crystals have no label for log10_K_VRH and are left out.",
        "  2 of them because K_VRH is zero or less (first: mp-3, -12.5 GPa)",
    ]
    assert not {3, 5, 7} & {int(row) for part in split for row in part}
    said.clear()
    setup.split_batches(config("pretrain"), data, ["K_VRH"], said.append)
    assert said == ["1 of 40 crystals have no label for K_VRH and are left out."]
