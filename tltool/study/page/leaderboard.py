"""Figures of Matbench's leaderboard, and where the modes of a study with the official folds stand among them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from tltool.data.matbench_folds import FOLDS, TASKS
from tltool.reporting.comparable import grouped
from tltool.reporting.render.blocks import Block, Grid, Paragraph
from tltool.reporting.wording import fixed
from tltool.study.table import Row

CITATION = "Dunn and others, npj Comput. Mater. 6, 138 (2020), doi:10.1038/s41524-020-00406-3"
SOURCE = "github.com/materialsproject/matbench, docs_src/Leaderboards Per-Task, commit 936176d of 2024-01-20"

_ALGORITHMS = ("CGCNN", "MEGNet (kgcnn)", "ALIGNN", "MODNet v0.1.12", "coGN", "RF/Magpie", "dummy")
FIGURES: Mapping[str, Mapping[str, float]] = {
    task: dict(zip(_ALGORITHMS, values, strict=True))
    for task, values in {
        "matbench_dielectric": (0.599, 0.339, 0.345, 0.271, 0.309, 0.420, 0.809),
        "matbench_jdft2d": (49.2, 54.2, 43.4, 33.2, 37.2, 50.0, 67.3),
        "matbench_log_gvrh": (0.0895, 0.0871, 0.0715, 0.0731, 0.0689, 0.104, 0.293),
        "matbench_log_kvrh": (0.0712, 0.0668, 0.0568, 0.0548, 0.0535, 0.082, 0.290),
        "matbench_phonons": (57.8, 28.8, 29.5, 34.3, 29.7, 67.6, 324.0),
        "matbench_perovskites": (0.0452, 0.0352, 0.0288, 0.0908, 0.0269, 0.236, 0.566),
        "matbench_mp_gap": (0.297, 0.193, 0.186, 0.220, 0.156, 0.345, 1.327),
        "matbench_mp_e_form": (0.0337, 0.0252, 0.0215, 0.0448, 0.0170, 0.117, 1.006),
    }.items()
}
"""Mean of the MAE of five folds by task and algorithm, in the unit of the task."""


def blocks(rows: Sequence[Row]) -> Iterator[Block]:
    """Yield a table for each task of which folds were predicted with all of their training rows."""
    official = [row for row in rows if row.run.fold is not None and row.cell.kind.size is None]
    for task, some in grouped(official, lambda row: row.run.data).items():
        if task not in FIGURES or TASKS[task].classes:
            continue
        yield Paragraph(
            f"{task}: mean of the MAE of the folds ({some[0].unit}), and of the test crystals of all folds that the "
            f"source was trained on (seen) and was not (unseen). Lines of the leaderboard are from {SOURCE} "
            f"({CITATION}); they have no such parts."
        )
        header = ["algorithm", "folds", "MAE", "seen", "crystals", "unseen", "crystals"]
        yield Grid(header, "lrrrrrr", [cells for _, cells in sorted(lines(task, some), key=lambda pair: pair[0])])


def lines(task: str, rows: Sequence[Row]) -> Iterator[tuple[float, list[str]]]:
    """Yield (MAE, cells) of every mode and source in ``rows``, and of every algorithm of the leaderboard."""
    for name, figure in FIGURES[task].items():
        yield figure, [f"leaderboard: {name}", str(FOLDS), f"{figure:.4g}", "", "", "", ""]
    for kind, some in grouped(rows, lambda row: row.cell.kind).items():
        mean = fmean(row.error for row in some)
        cells = [f"tltool: {kind.mode} from {kind.source}", str(len({row.run.fold for row in some})), fixed(mean)]
        for word in ("seen", "unseen"):
            n, error = pooled(some, word)
            cells += [fixed(error, mean) if n else "", f"{n:,}" if n else ""]
        yield mean, cells


def pooled(rows: Sequence[Row], word: str) -> tuple[int, float]:
    """Return the number of test crystals of one part in all ``rows``, and their mean error (not the mean of means)."""
    parts: list[Mapping[str, Any]] = [row.run.quantities[row.quantity].get(word) or {} for row in rows]
    known = [(int(part["n"]), float(part[row.metric])) for part, row in zip(parts, rows, strict=True) if part.get("n")]
    n = sum(count for count, _ in known)
    return n, sum(count * error for count, error in known) / n if n else math.nan
