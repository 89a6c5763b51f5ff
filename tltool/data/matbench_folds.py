"""Matbench's official folds, computed from row numbers and checked against the published ones.

Dunn and others, npj Comput. Mater. 6, 138 (2020), doi:10.1038/s41524-020-00406-3. Sizes: n official rows of a task.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tltool.data.record import Floats, Ints
from tltool.data.splits import Split, checked, shortened
from tltool.data.store import Store
from tltool.errors import ConfigError, DataError

FOLDS = 5
_SEED = 18012019
_ABSENT = 0.01


class Task(NamedTuple):
    """A task: its number of rows, whether labels are classes, and the sha256 of the published test ids.

    The hash is that of the JSON text ``{"fold_0":[ids],...}`` without spaces.
    """

    rows: int
    published: str
    classes: bool = False


TASKS = {
    "matbench_jdft2d": Task(636, "2c6a350ab6a1bd4f32fba9b5fba94c356e4b7baca2cbbf69a5867180a6e50830"),
    "matbench_phonons": Task(1265, "9ffd8518fa72cbb46b648a3af5dca0592112170724e9bae3c569fce3a93b37e0"),
    "matbench_dielectric": Task(4764, "17bccf1cab7b9a346519411ca11d3868bb6a6fc54b614af276ace4568e8d0f3f"),
    "matbench_log_gvrh": Task(10987, "025423725dae69b0e6ee08f11eac66a3ce004b248a7a03d4603f7caf1a0e61f9"),
    "matbench_log_kvrh": Task(10987, "6c313b389b02d5b7b21be5614252ba3814449d6fd900c2ed38ff001ade52ce42"),
    "matbench_perovskites": Task(18928, "a3f00325b0abe42df70126b197471ca629501214a957076dde368c68bbd6c47f"),
    "matbench_mp_gap": Task(106113, "06a9044de0440182aab36ebcddde9cb7b3806febaa332759bb4ee4ac5d26fdc8"),
    "matbench_mp_is_metal": Task(106113, "75636928c0caa231f6cfe09bfea5787018107fd7f0d911b000b60ee99be9a74a", True),
    "matbench_mp_e_form": Task(132752, "9c4b7e3b1353cb76190d02ddd76890cfd4f4e7685955dd377cbda8daba1c34bb"),
}
"""The tasks with structures; an encoder of structures cannot use those with compositions alone."""


def official_id(task: str, row: int, rows: int) -> str:
    """Return the published id of official row ``row``, counted from 0, of a task with ``rows`` rows."""
    return f"mb-{task.removeprefix('matbench_').replace('_', '-')}-{row + 1:0{len(str(rows))}d}"


def matbench(records: Store, labelled: Floats, /, *, fold: int, seed: int, val: float, train_size: int | None) -> Split:
    """Test on an official fold; train and validate on the other four.

    ``labelled`` (r,) contains the labels, NaN for a missing label. Validation rows are the first fraction ``val`` of a
    permutation by ``seed`` of the official rows outside the fold (one row more if this makes the training sets of all
    folds equally large). The rest are training rows. Rows that were left out are skipped after the permutation, so they
    move no other row. ``train_size`` keeps the first training rows, and validation rows in proportion. Raise DataError
    for data that are not a complete Matbench task.
    """
    if not 0 <= fold < FOLDS or not 0 <= val < 1:
        raise ConfigError(f"split: fold={fold} must be 0 to {FOLDS - 1}, and val={val} a fraction below 1.")
    task, numbers = _recognised(records.ids)
    place = np.full(TASKS[task].rows, -1)
    present = np.isfinite(labelled)
    place[numbers[present]] = np.flatnonzero(present)
    tests = _official(task, labelled, place)
    others = np.setdiff1d(np.arange(len(place)), tests[fold])
    others = np.random.default_rng(seed).permutation(others)
    fewest = len(place) - max(map(len, tests))
    n_val = len(others) - fewest + round(val * fewest) if val else 0
    train, valid, test = (
        rows[rows >= 0] for rows in (place[others[n_val:]], place[others[:n_val]], place[tests[fold]])
    )
    parts = shortened(Split(train, valid, test), train_size, val / (1 - val))
    return checked(parts, len(records), needs_val=val > 0, remedy="give the whole file, or use split=random")


def tests_of(rows: int, labels: Floats | None) -> list[Ints]:
    """Return the official row numbers of each test fold, stratified by ``labels`` (rows,) if these are classes."""
    from sklearn.model_selection import KFold, StratifiedKFold

    how = {"n_splits": FOLDS, "shuffle": True, "random_state": _SEED}
    parts = KFold(**how).split(np.arange(rows)) if labels is None else StratifiedKFold(**how).split(labels, labels)
    return [test for _, test in parts]


def _recognised(ids: Sequence[str]) -> tuple[str, Ints]:
    """Return the task to which ``ids`` belong, and their official row numbers."""
    prefixes = {official_id(task, 0, known.rows).rpartition("-")[0]: task for task, known in TASKS.items()}
    task = prefixes.get(ids[0].rpartition("-")[0])
    if task is not None:
        rows = TASKS[task].rows
        row_of = {official_id(task, row, rows): row for row in range(rows)}
        numbers = np.array([row_of.get(name, -1) for name in ids])
        if (numbers >= 0).all():
            if rows - len(ids) > _ABSENT * rows:
                raise DataError(
                    f"split=matbench needs the complete {task}: {len(ids):,} of its {rows:,} rows are present; "
                    "give the "
                    "whole file, or use split=random."
                )
            return task, numbers
    raise DataError(f"split=matbench needs a Matbench task, and ids such as {ids[0]!r} are of none; use split=random.")


def _official(task: str, labelled: Floats, place: Ints) -> list[Ints]:
    """Return the test folds of ``task``, with the labels of all rows if the folds depend on them."""
    rows, published, classes = TASKS[task]
    if classes and (place < 0).any():
        name = official_id(task, int(np.argmin(place)), rows)
        raise DataError(
            f"The folds of {task} are made by the labels of all its {rows:,} rows, and {name} is missing; give the "
            "whole file, or use split=random."
        )
    tests = tests_of(rows, labelled[place] if classes else None)
    names = {f"fold_{k}": [official_id(task, int(row), rows) for row in test] for k, test in enumerate(tests)}
    found = hashlib.sha256(json.dumps(names, separators=(",", ":")).encode()).hexdigest()
    if found != published:
        raise DataError(
            f"The folds of {task} differ from the published ones (sha256 {found}, published {published}); check that "
            "labels and rows are those of the official file."
        )
    return tests
