"""Write a report as Markdown (with GitHub's tables), and its pictures as files in a folder next to it."""

import re
from collections.abc import Sequence
from pathlib import Path

from tltool.reporting.render.blocks import Block, Bullets, Grid, Heading, Paragraph, Picture, Verbatim


def write(report: Sequence[Block], path: Path) -> None:
    """Write ``report`` to ``path`` and its pictures to the folder ``<stem>_files`` next to it; raise OSError."""
    parts = []
    for i, block in enumerate(report):
        address = f"{path.stem}_files/{i:03d}"
        if isinstance(block, Picture):
            address += f"_{re.sub('[^A-Za-z0-9]+', '_', block.name)[:80]}.png"
            (path.parent / address).parent.mkdir(exist_ok=True)
            (path.parent / address).write_bytes(block.png)
        parts.append(_render(block, address))
    # A folder name may be invalid text; "?" replaces its invalid characters.
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="replace")


def _render(block: Block, address: str) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_safe(text)}"
        case Paragraph(text):
            return _safe(text)
        case Bullets(items):
            return "\n".join(f"- {_safe(item)}" for item in items)
        case Verbatim(text):
            return f"~~~\n{text}\n~~~"
        case Picture(_, _, _, caption, _):
            return f"![{_safe(caption)}]({address})\n\n*{_safe(caption)}.*"
        case Grid(header, align, rows, best):
            cells = [[_safe(cell) for cell in row] for row in [header, *rows]]
            for i in best:
                cells[i + 1][0] = f"**{cells[i + 1][0]}**"
            cells.insert(1, ["---:" if side == "r" else "---" for side in align])
            return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def _safe(text: str) -> str:
    """Return ``text`` on one line, with all characters of Markdown or HTML markup escaped."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|\[\]~#]|\b_|_\b)", r"\\\1", text)
