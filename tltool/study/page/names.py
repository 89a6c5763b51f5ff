"""What the names of a page stand for: targets, modes and sources in plain words, or by their overrides."""

from collections.abc import Iterator

from tltool.reporting.render.blocks import Block, Grid
from tltool.study.summary import Summary


def blocks(found: Summary) -> Iterator[Block]:
    """Yield a table of the names of a study, with what its YAML says about each, else the overrides of its runs."""
    axes = found.axes
    lines = [["target", one.name, one.about or " ".join(one.words)] for one in axes.targets]
    lines += [["mode", one.name, one.about or " ".join(one.words)] for one in axes.modes]
    for source in axes.sources:
        what = source.about or source.given or f"pretrained with {' '.join(source.words)}"
        lines.append(["source", source.name, what if source.rows is None else f"{what}; {source.rows:,} crystals"])
    lines += [["split", name, " ".join(words) or "a random one"] for name, words in axes.splits.items()]
    yield Grid(["", "name", "what it is"], "lll", lines)
