"""What a study leaves in its folder besides the runs: the table, the statistics and the page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tltool.errors import ResourceError, TltoolError
from tltool.reporting.render import html, markdown
from tltool.run_folder import status
from tltool.study import matbench_file, summary, table
from tltool.study.axes import Axes
from tltool.study.cells import State, Task
from tltool.study.page import compose, figures
from tltool.study.summary import Summary


def write(axes: Axes, tasks: Sequence[Task], states: Mapping[Path, State], folder: Path) -> Summary:
    """Write the table of all cells, the statistics and the page of those that are done; return the statistics."""
    rows = table.rows(task for task in tasks if states[task.folder].word == "done")
    found = summary.summarise(axes, rows)
    shown = list(figures.pictures(found))
    blocks = compose.compose(found, rows, tasks, states, shown)
    try:
        table.write(table.frame(axes, tasks, states), folder, "cells")
        table.write(compose.differences(found), folder, "differences")
        table.write(compose.claims(found), folder, "claims")
        table.write(compose.curves(found), folder, "figure")
        figures.write(shown, folder / "figures")
        html.write(blocks, folder / "page.html")
        markdown.write(blocks, folder / "page.md")
        matbench_file.write(rows, folder / "matbench")
    except OSError as error:
        raise ResourceError(
            f"The outputs of the study cannot be written to {folder} ({error.strerror or error}); free space or name "
            "another folder with runs=."
        ) from error
    return found


def code_of(folder: Path) -> int:
    """Return the exit code of the run in ``folder``."""
    code = status.read(folder).get("code")
    return code if isinstance(code, int) and code else TltoolError.code
