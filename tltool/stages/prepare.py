"""``tltool prepare``: read a data set and build its graphs into the cache."""

import json
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.run_folder.console import show
from tltool.run_folder.run import Run
from tltool.training.backend import Backend
from tltool.training.setup import data_set


def run(config: Mapping[str, Any], folder: Run, backend: Backend, /) -> None:
    """Prepare ``config['data']`` with ``config['graph']`` and print its content."""
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
