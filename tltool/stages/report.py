"""``tltool report``: write a report on all finished runs as Markdown and HTML."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tltool.errors import ResourceError
from tltool.reporting.content import compose
from tltool.reporting.finished_runs import collect
from tltool.reporting.render import html, markdown
from tltool.reporting.render.terminal import remarks, tables
from tltool.run_folder.console import show
from tltool.run_folder.run import Run
from tltool.training.backend import Backend


def run(config: Mapping[str, Any], folder: Run, backend: Backend, /) -> None:
    """Read the finished runs in ``config['inputs']``, write the report, and print the table."""
    runs = collect([Path(place) for place in config["inputs"]])
    out = Path(config["output"]) if config["output"] else folder.folder / "report"
    report = compose(runs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        markdown.write(report, out / "report.md")
        html.write(report, out / "report.html")
    except OSError as error:
        raise ResourceError(
            f"The report cannot be written to {out} ({error.strerror or error}); choose another name with output=."
        ) from error
    show(*tables(runs.results))
    why = Counter(f"{skipped.state} ({skipped.reason})" for skipped in runs.skipped)
    reasons = ": " + ", ".join(f"{n} {reason}" for reason, n in why.items()) if why else ""
    folder.say(f"Finished runs: {len(runs.results)}. Left out: {len(runs.skipped)}{reasons}.")
    for text, command, _ in remarks(runs.results):
        folder.say(text, command)
    folder.say(f"Markdown: {out / 'report.md'}")
    folder.say(f"HTML: {out / 'report.html'}")
