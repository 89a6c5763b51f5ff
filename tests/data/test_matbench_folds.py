"""Matbench's folds are those that were published, whatever rows are left out; parts and other data are refused."""

from functools import cache

import numpy as np
import pytest
from support import config, store_of

from tltool import instantiate
from tltool.data import matbench_folds
from tltool.data.matbench_folds import TASKS, official_id
from tltool.data.splits import Split
from tltool.errors import ConfigError, DataError

PHONONS = [official_id("matbench_phonons", row, 1265) for row in range(1265)]


def split(ids: list[str], labels: np.ndarray | None = None, **keys: object) -> Split:
    """Return the split of the shipped YAML with ``keys`` changed."""
    return instantiate.call(shipped() | keys, store_of(ids), np.ones(len(ids)) if labels is None else labels)


@cache
def shipped() -> dict[str, object]:
    return config("transfer", "split=matbench")["split"]


# As published; the sizes in the order of the folds.
@pytest.mark.parametrize(
    ("task", "first", "sizes"),
    [
        ("matbench_jdft2d", ["mb-jdft2d-012", "mb-jdft2d-014", "mb-jdft2d-027"], [128, 127, 127, 127, 127]),
        ("matbench_phonons", ["mb-phonons-0002", "mb-phonons-0003", "mb-phonons-0007"], [253] * 5),
        ("matbench_dielectric", ["mb-dielectric-0008", "mb-dielectric-0010", "mb-dielectric-0019"], [953] * 4 + [952]),
        ("matbench_log_gvrh", ["mb-log-gvrh-00006", "mb-log-gvrh-00010", "mb-log-gvrh-00040"], [2198] * 2 + [2197] * 3),
        ("matbench_log_kvrh", ["mb-log-kvrh-00006", "mb-log-kvrh-00010", "mb-log-kvrh-00040"], [2198] * 2 + [2197] * 3),
        ("matbench_perovskites", ["mb-perovskites-00006", "mb-perovskites-00011", "mb-perovskites-00021"],
         [3786] * 3 + [3785] * 2),
        ("matbench_mp_gap", ["mb-mp-gap-000003", "mb-mp-gap-000004", "mb-mp-gap-000011"], [21223] * 3 + [21222] * 2),
        ("matbench_mp_e_form", ["mb-mp-e-form-000004", "mb-mp-e-form-000008", "mb-mp-e-form-000011"],
         [26551] * 2 + [26550] * 3),
    ],
)  # fmt: skip
def test_the_published_folds(task: str, first: list[str], sizes: list[int]) -> None:
    # That all ids are the published ones, a hash in the module tells whenever it is used.
    ids = [official_id(task, row, TASKS[task].rows) for row in range(TASKS[task].rows)]
    if len(ids) < 20_000:
        tests = [split(ids, fold=k).test for k in range(5)]
    else:
        tests = matbench_folds._official(task, np.ones(len(ids)), np.arange(len(ids)))
    assert [ids[row] for row in tests[0][:3]] == first
    assert [len(test) for test in tests] == sizes
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(len(ids)))


def test_other_folds_than_published_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matbench_folds, "_SEED", 1)
    with pytest.raises(DataError, match=r"folds of matbench_phonons differ from the published ones"):
        split(PHONONS)


def test_parts_are_disjoint_nested_and_keep_the_test_rows() -> None:
    whole = split(PHONONS, fold=2)
    assert sorted(np.concatenate(whole)) == list(range(1265))
    assert [len(part) for part in whole] == [911, 101, 253]
    small = split(PHONONS, fold=2, train_size=90)
    assert small.train.tolist() == whole.train[:90].tolist()
    assert small.val.tolist() == whole.val[:10].tolist()
    assert small.test.tolist() == whole.test.tolist()
    other = split(PHONONS, fold=2, seed=1)
    assert other.test.tolist() == whole.test.tolist()
    assert set(other.val) != set(whole.val)
    assert len(split(PHONONS, val=0).val) == 0
    layers = [official_id("matbench_jdft2d", row, 636) for row in range(636)]
    sizes = [[len(part) for part in split(layers, fold=fold)] for fold in range(5)]
    assert sizes == [[457, 51, 128], *[[457, 52, 127]] * 4]


def test_rows_left_out_move_no_other_row() -> None:
    gone = {3, 500, 1264}
    ids = [name for row, name in enumerate(PHONONS) if row not in gone][::-1]
    labels = np.ones(len(ids))
    labels[7] = np.nan
    named = [{ids[row] for row in part} for part in split(ids, labels, fold=1)]
    full = [{PHONONS[row] for row in part} for part in split(PHONONS, fold=1)]
    lost = {PHONONS[row] for row in gone} | {ids[7]}
    assert named == [part - lost for part in full]


def test_a_part_and_other_data_are_refused() -> None:
    with pytest.raises(DataError, match=r"complete matbench_phonons: 700 of its 1,265 rows.*split=random"):
        split(PHONONS[:700])
    for ids in (["mp-1", "mp-2"], ["mb-phonons-0001", "mb-jdft2d-002"], ["mb-phonons-0001", "mb-phonons-1266"]):
        with pytest.raises(DataError, match=rf"needs a Matbench task, and ids such as '{ids[0]}'"):
            split(ids)
    for keys in ({"fold": 5}, {"fold": -1}, {"val": 1.0}):
        with pytest.raises(ConfigError, match="split: fold="):
            split(PHONONS, **keys)
    with pytest.raises(ConfigError, match="train_size=5000"):
        split(PHONONS, train_size=5000)


def test_folds_of_classes() -> None:
    labels = np.random.default_rng(0).random(1000) < 0.43
    tests = matbench_folds.tests_of(1000, labels.astype(float))
    assert all(np.array_equal(a, b) for a, b in zip(tests, matbench_folds.tests_of(1000, labels), strict=True))
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(1000))
    assert {len(test) for test in tests} == {200}
    assert np.ptp([labels[test].sum() for test in tests]) <= 1


def test_classes_need_every_label_and_the_published_ones() -> None:
    rows = TASKS["matbench_mp_is_metal"].rows
    ids = [official_id("matbench_mp_is_metal", row, rows) for row in range(rows)]
    labels = (np.arange(rows) % 2).astype(float)
    with pytest.raises(DataError, match="differ from the published ones"):
        split(ids, labels)
    labels[41] = np.nan
    with pytest.raises(DataError, match="mb-mp-is-metal-000042 is missing"):
        split(ids, labels)
