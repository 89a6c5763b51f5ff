"""Write a report as one HTML page without other files: no scripts, no fonts, no external addresses."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from tltool.plot_style import INKS
from tltool.reporting.render.blocks import Block, Bullets, Grid, Heading, Paragraph, Picture, Verbatim

_VERDICTS = {"positive transfer": ' class="good"', "negative transfer": ' class="bad"'}
_HEAD = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
* { box-sizing: border-box; border: 0 solid color-mix(in srgb, currentColor 18%, transparent); }
html { font: 15px/1.55 system-ui, sans-serif; scroll-padding-top: 3.5rem; overflow-wrap: anywhere; }
body { max-width: 76rem; margin: 0 auto; padding: 0 1.5rem; }
nav { position: sticky; top: 0; display: flex; flex-wrap: wrap; gap: .2rem 1.3rem; padding: .6rem 0;
  background: Canvas; border-bottom-width: 1px; }
h2 { margin-top: 2.6rem; border-bottom-width: 1px; }
p, li { max-width: 52rem; }
pre { overflow-x: auto; font-size: .85rem; }
a { color: inherit; }
.table { overflow-x: auto; margin: .6rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .4rem .7rem; text-align: left; border-bottom-width: 1px; }
th { vertical-align: bottom; }
td { vertical-align: top; white-space: nowrap; }
.r { text-align: right; }
.best { font-weight: 650; }
.good { color: light-dark(#116329, #7ee787); }
.bad { color: light-dark(#a40e26, #ffa198); }
figure { display: inline-block; vertical-align: top; margin: 0 .5rem 1rem 0; width: 100%; font-size: .85rem; }
.third { width: calc(33.3% - 1rem); min-width: min(100%, 19rem); }
.half { width: calc(50% - 1rem); min-width: min(100%, 24rem); }
figure > svg { width: 100%; height: auto; border-width: 1px; border-radius: 8px; }
.full > svg { max-width: 60rem; }
:root { --ink: light-dark(#24292f, #e6edf3); --dim: light-dark(#57606a, #9da7b1); --edge: light-dark(#8a9199, #6e7781);
  --grid: light-dark(#e6e9ec, #30363d); --pale: light-dark(#c4c9cf, #484f58); --rim: light-dark(#d5d9dd, #30363d);
  color-scheme: light dark; }
@media print { nav { display: none; } h2, h3 { break-after: avoid; } figure, tr { break-inside: avoid; } }
</style>
"""


def write(report: Sequence[Block], path: Path) -> None:
    """Write ``report`` as an HTML page to ``path``; raise OSError if it cannot be written."""
    sections = [(i, block.text) for i, block in enumerate(report) if isinstance(block, Heading) and block.level == 2]
    links = "\n".join(f'<a href="#s{i}">{escape(text)}</a>' for i, text in sections)
    body = "\n".join(_render(block, i) for i, block in enumerate(report))
    # A folder name may be invalid text; "?" replaces its invalid characters.
    title = next((block.text for block in report if isinstance(block, Heading)), "tltool")
    page = f"{_HEAD}<title>{escape(title)}</title>\n<nav>\n{links}\n</nav>\n<main>\n{body}\n</main>\n</html>\n"
    path.write_text(page, encoding="utf-8", errors="replace")


def _render(block: Block, i: int) -> str:
    match block:
        case Heading(level, text):
            return f'<h{level} id="s{i}">{escape(text)}</h{level}>'
        case Paragraph(text):
            return f"<p>{escape(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
        case Verbatim(text):
            return f"<pre>{escape(text)}</pre>"
        case Picture(_, _, svg, caption, width):
            image = _inline(svg, caption, i)
            return f'<figure class="{width}">{image}<figcaption>{escape(caption)}.</figcaption></figure>'
        case Grid(header, align, rows, best):
            lines = [f"<tr>{_cells('th', align, header)}</tr>"]
            lines += [f"<tr{' class=best' * (n in best)}>{_cells('td', align, row)}</tr>" for n, row in enumerate(rows)]
            return '<div class="table"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _inline(svg: str, caption: str, i: int) -> str:
    """Return ``svg`` as an element of the page, with inks for light and dark, and names that no other picture has."""
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>p{i}-", svg[svg.index("<svg") :])
    for colour, name in INKS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)


def _cells(tag: str, align: str, texts: Sequence[str]) -> str:
    cells = zip(align, texts, strict=True)
    return "".join(f'<{tag} class="{s}"><span{_VERDICTS.get(t, "")}>{escape(t)}</span></{tag}>' for s, t in cells)
