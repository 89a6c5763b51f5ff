"""Put the results of studies into docs/: a page for each, and the table of the four works in docs/experiments.md.

python scripts/study_pages.py runs/study/NAME ... copies claims, differences and figures of finished studies to
docs/studies/NAME, and writes the tables of their pages below the mark in docs/studies/NAME.md, which keeps what stands
above it. Without a folder it only writes the table of docs/experiments.md again, from the files in docs/studies.
"""

import argparse
import csv
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
MARK = "<!-- written by scripts/study_pages.py -->"
END = "<!-- end -->"
READ = (
    "What a cell, a draw and the verdicts are: [studies.md](../studies.md#what-a-study-is); how differences, "
    "intervals and slopes are made: [the statistics](../studies.md#the-statistics)."
)
"""What every page says before its tables."""
SHOWN = 6
"""Comparisons of a claim that the table has."""
_WORKS = {
    "lee_asahi": "Lee and Asahi 2021",
    "chen_ong": "Chen and Ong 2021",
    "devi": "Devi and others 2024",
    "hoffmann": "Hoffmann and others 2023",
}


def keep(run: Path, docs: Path) -> None:
    """Copy the results of the study in the folder ``run`` to ``docs``, and write the tables of its page."""
    place = docs / "studies" / run.name
    place.mkdir(parents=True, exist_ok=True)
    for name in ("claims.csv", "differences.csv"):
        shutil.copy(run / name, place / name)
    for old in place.glob("*.svg"):
        old.unlink()
    for figure in sorted((run / "figures").glob("*.svg")):
        shutil.copy(figure, place / figure.name)
    page = docs / "studies" / f"{run.name}.md"
    head = page.read_text(encoding="utf-8").partition(MARK)[0] if page.is_file() else f"# Study {run.name}\n\n"
    page.write_text(f"{head}{MARK}\n\n{READ}\n\n{body(run, place)}", encoding="utf-8")


def body(run: Path, place: Path) -> str:
    """Return the page of a study without its title, with the figures in ``place``."""
    text = (run / "page.md").read_text(encoding="utf-8")
    text = re.sub(r"\A# [^\n]*\n+", "", text)

    def figure(found: re.Match[str]) -> str:
        name = found[2].rpartition("/")[2].partition("_")[2].removesuffix(".png")
        return f"![{found[1]}]({place.name}/{name}.svg)" if (place / f"{name}.svg").is_file() else ""

    text = re.sub(r"!\[(.*?)\]\((\S+?\.png)\)", figure, text)
    return text.partition("\n## How to read this page")[0].rstrip() + "\n"


def table(docs: Path) -> str:
    """Return the table of the works: a line for each claim of the studies whose results are in ``docs``."""
    lines = ["| work | study | claim | verdict | figures: difference to scratch, 95 % over draws |"]
    lines.append("|---|---|---|---|---|")
    for work, title in _WORKS.items():
        for name in (work, f"{work}_small"):
            path = docs / "studies" / name / "claims.csv"
            if path.is_file():
                lines += [f"| {title} | [{name}](studies/{name}.md) | {rest} |" for rest in _claims(path)]
    return "\n".join(lines)


def _claims(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for says, some in groupby(rows, lambda row: row["claim"]):
        found = list(some)
        figures = [_figure(row) for row in found if row["target"]]
        more = f"; and {len(figures) - SHOWN} more" if len(figures) > SHOWN else ""
        yield f"{says} | {found[0]['verdict']} | {'; '.join(figures[:SHOWN]) or 'no cell of it was run'}{more}"


def _figure(row: Mapping[str, str]) -> str:
    split = "" if row["split"] == "random" else f" ({row['split']})"
    text = f"{row['target']}{split}, {row['rows'] or 'all'} rows: {float(row['difference']):+.1%}"
    return f"{text} [{float(row['low']):+.1%}, {float(row['high']):+.1%}]" if row["low"] else text


def written(page: str, made: str) -> str:
    """Return ``page`` with the table ``made`` between its marks."""
    head, mark, rest = page.partition(MARK)
    if not mark or END not in rest:
        raise SystemExit(f"docs/experiments.md has no {MARK} and {END}; put them where the table belongs.")
    return f"{head}{MARK}\n\n{made}\n\n{END}{rest.partition(END)[2]}"


def main(arguments: Sequence[str]) -> None:
    """Copy the results of the studies that are named, and write the table of the works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders runs/study/NAME of studies that have ended")
    parser.add_argument("--docs", type=Path, default=DOCS)
    given = parser.parse_args(arguments)
    for run in given.runs:
        keep(run, given.docs)
    page = given.docs / "experiments.md"
    page.write_text(written(page.read_text(encoding="utf-8"), table(given.docs)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
