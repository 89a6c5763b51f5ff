"""Pages of studies and the table of the four works are what the result files say."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import study_pages

ROOT = Path(__file__).parents[2]
CLAIMS = """study,claim,verdict,target,split,rows,mode,source,draws,difference,low,high,p_holm,verdict_of_comparison
hoffmann,It helps.,reproduced,gaps_hse,random,100,full,pbe,5,-0.25,-0.3,-0.2,0.01,better
hoffmann,It helps.,reproduced,gaps_hse,top,300,full,pbe,3,-0.125,,,,not known
hoffmann,It hurts.,not at this size,,,,,,,,,,,
"""
PAGE = """# Study hoffmann

Does it help? 4 cells.

![gap: test MAE](page_files/002_gaps_hse.png)

## Claims

- It helps.

## How to read this page

A draw is another choice.
"""


def made(run: Path) -> Path:
    """Write the outputs of a study to ``run``."""
    (run / "figures").mkdir(parents=True)
    (run / "figures" / "gaps_hse.svg").write_text("<svg/>")
    (run / "claims.csv").write_text(CLAIMS)
    (run / "differences.csv").write_text("target\n")
    (run / "page.md").write_text(PAGE)
    return run


def test_the_table_of_the_works_says_what_the_result_files_say() -> None:
    """If it has drifted, python scripts/study_pages.py writes it again."""
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert page == study_pages.written(page, study_pages.table(ROOT / "docs"))


def test_every_figure_of_a_page_is_there() -> None:
    for page in (ROOT / "docs" / "studies").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert study_pages.MARK in text
        for path in re.findall(r"!\[[^]]*\]\((\S+)\)", text):
            assert (page.parent / path).is_file(), path


def test_results_of_a_run_become_a_page_and_lines_of_the_table(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "studies").mkdir(parents=True)
    (docs / "experiments.md").write_text(f"# Experiments\n{study_pages.MARK}\nold\n{study_pages.END}\nrest\n")
    (docs / "studies" / "hoffmann.md").write_text("# By hand\n\nOn two cores.\n\n")
    run = made(tmp_path / "runs" / "hoffmann")
    for _ in range(2):
        study_pages.main([str(run), "--docs", str(docs)])
        text = (docs / "studies" / "hoffmann.md").read_text()
        assert text.startswith(
            f"# By hand\n\nOn two cores.\n\n{study_pages.MARK}\n\n{study_pages.READ}\n\nDoes it help? 4 cells.\n"
        )
        assert "![gap: test MAE](hoffmann/gaps_hse.svg)" in text
        assert "How to read" not in text
        found = (docs / "experiments.md").read_text()
        assert found.startswith(f"# Experiments\n{study_pages.MARK}\n\n| work |")
        assert found.endswith(f"\n\n{study_pages.END}\nrest\n")
        helps = "gaps_hse, 100 rows: -25.0% [-30.0%, -20.0%]; gaps_hse (top), 300 rows: -12.5%"
        place = "| Hoffmann and others 2023 | [hoffmann](studies/hoffmann.md) |"
        assert f"{place} It helps. | reproduced | {helps} |" in found
        assert f"{place} It hurts. | not at this size | no cell of it was run |" in found
        assert (docs / "studies" / "hoffmann" / "gaps_hse.svg").is_file()


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="put them where the table belongs"):
        study_pages.written("# Experiments\n", "table")
