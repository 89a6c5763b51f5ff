"""The cells of a study: every transfer that it makes, each with its folder and the words of its command."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tltool.errors import ConfigError
from tltool.study.axes import Axes, Mode, Source, Target

FOLDS = 5
"""Matbench's folds, which stand in the place of draws where a split has them."""


class Kind(NamedTuple):
    """What cells share that differ in the draw alone; they take about the same time."""

    target: str
    source: str
    mode: str
    size: int | None
    split: str


class Cell(NamedTuple):
    """One transfer of a study: its ``kind``, the draw of its rows, and the folder of its run."""

    kind: Kind
    draw: int
    folder: Path


class Series(NamedTuple):
    """All cells of one target, mode and split, whose configs differ in source, size and draw alone.

    ``words`` are the overrides that they share.
    """

    target: Target
    mode: Mode
    split: str
    words: tuple[str, ...]
    cells: tuple[Cell, ...]


def plan(axes: Axes, root: Path) -> list[Series]:
    """Return the cells of a study in the folder ``root``, those of one target and split in a row, small sizes first."""
    return [
        Series(target, mode, split, _words(axes, target, mode, words), tuple(_cells(axes, target, mode, split, root)))
        for target in axes.targets
        for split, words in axes.splits.items()
        for mode in axes.modes
    ]


def source_folder(root: Path, source: Source) -> Path:
    """Return the folder of the pretraining of ``source``."""
    return root / "sources" / source.name


def taken(axes: Axes, mode: Mode) -> tuple[Source, ...]:
    """Return the sources that ``mode`` is run with: the first, if it takes nothing of a source."""
    return axes.sources[:1] if mode.once else axes.sources


def drawn(config: Mapping[str, Any], cell: Cell, source: str, seed: int) -> dict[str, Any]:
    """Return ``config`` of a series with the source, the rows and the seed of ``cell``.

    Draw d has the seed ``seed`` + d. The test rows are those of the split's seed ``seed``, the same for all draws and
    sizes. A split by groups cannot draw other training rows for the same test rows; there each draw has other test rows
    as well. Of Matbench's folds each is a draw.
    """
    split = dict(config["split"])
    if "train_size" not in split:
        raise ConfigError(f"study.splits.{cell.kind.split} sets no sizes; use random, hash, composition or prototype.")
    split["train_size"], split["seed"] = cell.kind.size, seed
    if "fold" in split:
        split["fold"] = cell.draw
    elif "draw" in split:
        split["draw"] = cell.draw
    else:
        split["seed"] = seed + cell.draw
    return {**config, "source": source, "seed": seed + cell.draw, "split": split}


def command(series: Series, config: Mapping[str, Any]) -> list[str]:
    """Return the overrides with which ``tltool transfer`` repeats the run of ``config``, a cell of ``series``."""
    split = config["split"]
    own = [f"split.{key}={_word(split[key])}" for key in ("seed", "draw", "fold", "train_size") if key in split]
    return [*series.words, f"source={config['source']}", f"seed={config['seed']}", *own]


def _words(axes: Axes, target: Target, mode: Mode, split: tuple[str, ...]) -> tuple[str, ...]:
    return (*target.words, *split, *mode.words, *axes.settings)


def _cells(axes: Axes, target: Target, mode: Mode, split: str, root: Path) -> Iterator[Cell]:
    has_folds = any(word == "split=matbench" for word in axes.splits[split])
    for size in sorted(target.sizes, key=lambda n: (n is None, n)):
        for source in taken(axes, mode):
            kind = Kind(target.name, source.name, mode.name, size, split)
            place = root / "cells" / target.name / split / source.name / mode.name / _word(size).replace("null", "all")
            for draw in range(FOLDS if has_folds else axes.draws[size]):
                yield Cell(kind, draw, place / f"draw-{draw}")


def _word(value: Any) -> str:
    return "null" if value is None else str(value)
