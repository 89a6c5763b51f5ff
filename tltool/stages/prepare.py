"""``tltool prepare``: read a data set and build its graphs into the cache."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from tltool.data.cache import estimate
from tltool.data.cache.estimate import Estimate
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.errors import ResourceError
from tltool.run_folder.console import show
from tltool.run_folder.run import Run
from tltool.training.backend import Backend
from tltool.training.setup import data_set, means


def run(config: Mapping[str, Any], folder: Run, backend: Backend, /) -> None:
    """Prepare ``config['data']`` with ``config['graph']`` and print its content, or only what that takes."""
    if config["dry_run"]:
        _estimate(config, folder)
        return
    data = data_set(config, config["data"], GraphSettings(**config["graph"]), folder.say)
    table = Table(title=f"Data set {config['data']['name']}")
    table.add_column("what")
    table.add_column("number", justify="right")
    counts = {
        "crystals": len(data.store),
        "sites": len(data.store.numbers),
        "nodes": len(data.graphs.number),
        "edges": len(data.graphs.neighbour),
        "different distances": len(data.graphs.distance),
    }
    counts |= {f"labels of {k}": int((v == v).sum()) for k, v in sorted(data.store.labels.items())}
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    show(table)
    if dropped := json.loads(data.store.attributes.get("dropped", "{}")):
        reasons = Table(title="Left out")
        reasons.add_column("reason")
        reasons.add_column("number", justify="right")
        for reason, count in sorted(dropped.items(), key=lambda item: -item[1]):
            reasons.add_row(reason, f"{count:,}")
        show(reasons)
    folder.write_json(
        "metrics.json", {"stage": "prepare", "data": config["data"]["name"], **counts, **data.store.attributes}
    )


def _estimate(config: Mapping[str, Any], folder: Run) -> None:
    """Print what preparing the data set will take; raise ResourceError if the disk cannot hold it."""
    description, graph_settings = config["data"], GraphSettings(**config["graph"])
    parts = description.get("parts") or {description["name"]: description}
    found = [estimate.estimate(part, graph_settings, means(config, folder.say)) for part in parts.values()]
    cache = Path(config["cache"]).expanduser()
    free = estimate.free(cache)
    table = Table(title=f"What preparing {description['name']} takes")
    table.add_column("what")
    for name in parts:
        table.add_column(name, justify="right")
    for rows in zip(*map(_rows, found), strict=True):
        table.add_row(rows[0][0], *(text for _, text in rows))
    show(table)
    disk = sum(one.disk or 0 for one in found)
    folder.write_json(
        "metrics.json",
        {"stage": "prepare", "data": description["name"], "dry_run": True, "free": free, "disk": disk}
        | {"parts": {name: asdict(one) for name, one in zip(parts, found, strict=True)}},
    )
    if disk > free:
        raise ResourceError(
            f"Preparing {description['name']} needs {_size(disk)} in cache={cache}, where {_size(free)} are free; "
            "free disk space, or name a folder on another disk with cache=DIR."
        )
    memory, there = max(one.memory or 0 for one in found), psutil.virtual_memory().available
    if memory > there:
        folder.say(f"About {_size(memory)} of memory are needed, and {_size(there)} are free; set a smaller workers=.")
    if all(one.files == one.done for one in found):
        folder.say(f"All of {description['name']} is prepared.")
    for name, one in zip(parts, found, strict=True):
        if one.files == 1 and not one.done:
            folder.say(f"{name} is a single file; what it takes is known when it has been prepared.")


def _rows(one: Estimate) -> Iterator[tuple[str, str]]:
    """Yield what to print about one data set."""
    yield "files", f"{one.files:,}, {one.done:,} of them prepared"
    yield "to download", _size(one.fetch)
    yield "disk", _size(one.disk)
    yield "peak memory", _size(one.memory)
    yield "time without the download", "unknown" if one.seconds is None else _time(one.seconds)
    timed = one.timed
    yield "one file", f"{timed.records:,} records in {_time(timed.seconds)}" if timed else ""


def _size(number: int | None) -> str:
    if number is None:
        return "unknown"
    return f"{number / 1e9:,.1f} GB" if number >= 1e8 else f"{number / 1e6:,.1f} MB"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
