"""Which keys of a config nothing reads in a run, and why.

Most keys are always read. Those here are read under a condition on other keys: what a stage reads of a data set, what
of ``fit`` counts where nothing is trained. What concerns one function alone (``mode.statistics`` without a level) is in
that function's module, see ``instantiate.idle_keys``. A test runs every stage, notes what it reads, and compares.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tltool import instantiate
from tltool.config_tree import data_nodes, nodes
from tltool.errors import ConfigError
from tltool.instantiate import TRAINING, Idle

Config = Mapping[str, Any]

ANYWHERE = ("device", "threads", "workers", "kernels", "cache", "runs")
"""Keys that every stage accepts: they say where and how fast to compute, never what, and commands share them."""

_OF_SCALERS = ("reference", "scale")
"""What of ``fit`` is read where nothing is trained by steps."""

_LEARNS = {
    "prepare": Idle("prepare reads every label of a data set"),
    "pretrain": Idle("pretrain learns quantities", "use quantities={value}"),
    "transfer": Idle("transfer learns target.quantities", "use target.quantities={value}"),
    "eval": Idle("eval takes the quantities that the model predicts"),
}


def idle_keys(stage: str, config: Config, *, functions: bool = True) -> dict[str, Idle]:
    """Return the dotted names of the keys, or whole nodes, that a run of ``stage`` with ``config`` does not read.

    Without ``functions`` the modules of the functions in ``config`` are not asked, so that none is imported.
    """
    plugins = config.get("plugins") or ()
    found = _of_stage(stage, config)
    for place, node in data_nodes(config):
        found |= {f"{place}.{key}": idle for key, idle in _of_data(stage, place, node).items()}
    for place, node in nodes(config) if functions else ():
        try:
            told = instantiate.idle_keys(node, config, plugins)
        except ConfigError:
            continue  # the run says so when it calls it
        found |= {f"{place}.{key}": idle.at(place) for key, idle in told.items() if key != TRAINING}
        if place == "mode" and TRAINING in told:
            found |= _untrained(config, told[TRAINING].at(place), ())
    return found


def why(key: str, found: Mapping[str, Idle]) -> Idle | None:
    """Return why ``key`` is idle, by itself or with a node that it stands in; None if it is read."""
    return next((idle for name, idle in found.items() if key == name or key.startswith(f"{name}.")), None)


def _of_stage(stage: str, config: Config) -> dict[str, Idle]:
    found: dict[str, Idle] = {}
    if stage not in ("pretrain", "transfer", "study"):
        found["seed"] = Idle(f"{stage} draws nothing at random")
    if stage == "transfer":
        # A mode.head that follows it is looked for where the override is checked.
        found["source_head"] = Idle("no mode.head follows it here", "use a mode that has mode.head, such as finetune")
    if stage == "report":
        found["plugins"] = Idle("report calls nothing that a package could bring")
        found |= dict.fromkeys(("checks", "limits"), Idle("report reads no structures"))
    if stage == "eval" and config.get("base") and not config.get("data"):
        found["base"] = Idle(
            "without data= the model's own test rows are taken, with the base that they had",
            "name the data, as data=NAME",
        )
    if stage == "pretrain" and config.get("state"):
        found["encoder.state_inputs"] = Idle("state=[...] sets how many there are", "use state=[TAG,...]")
    if (config.get("graph") or {}).get("max_neighbours", 0) is None and stage != "transfer":
        found["graph.shells"] = Idle(
            "without a cap on the neighbours no shell is cut", "set a cap, as graph.max_neighbours=12"
        )
    return found | _of_overlap(config.get("overlap") or {}) | (_of_fit(stage, config) if "fit" in config else {})


def _of_overlap(overlap: Config) -> dict[str, Idle]:
    if overlap.get("target"):
        names = Idle("of overlap.target only the crystals of overlap.target.quantities are looked up")
        return {"overlap.target.name": names, "overlap.target.base": names}
    return {
        "overlap.rows": Idle("it chooses among the crystals of a target", "name one, as target@overlap.target=NAME")
    }


def _of_fit(stage: str, config: Config) -> dict[str, Idle]:
    fit, split = config["fit"], config.get("split") or {}
    found: dict[str, Idle] = {}
    if fit.get("epochs") == 0:
        found |= _untrained(config, Idle("fit.epochs=0 trains nothing", "raise fit.epochs"), ("epochs",))
    if fit.get("schedule") != "onecycle":
        found["fit.warmup"] = Idle("only the schedule onecycle warms up", "use fit.schedule=onecycle")
    if fit.get("schedule") != "triangular":
        found["fit.period"] = Idle("only the schedule triangular has a period", "use fit.schedule=triangular")
    learnt = config["quantities"] if stage == "pretrain" else config["target"]["quantities"]
    if fit.get("weights") and len(learnt) == 1:
        found["fit.weights"] = Idle(f"{learnt[0]} alone is learnt, so that no other counts more or less")
    if split.get("val") == 0:
        rows = Idle("split.val=0 leaves no validation row", "keep some, as split.val=0.1")
        found |= {"fit.patience": rows} if fit.get("patience") is not None else {}
        found |= {"fit.select": rows} if fit.get("select") == "best" else {}
    return found


def _untrained(config: Config, idle: Idle, read: tuple[str, ...]) -> dict[str, Idle]:
    """Return what of ``fit`` and ``optimiser`` is idle, all but what scalers read and the keys ``read``."""
    keys = {f"fit.{key}": idle for key in config["fit"] if key not in (*_OF_SCALERS, *read)}
    return keys | {"optimiser": idle}


def _of_data(stage: str, place: str, node: Config) -> dict[str, Idle]:
    """Return what is idle of a description of a data set that stands at ``place``."""
    learns = _LEARNS.get(stage, Idle("nothing is learnt"))
    if place.startswith("overlap.target"):
        learns = Idle(
            "the crystals of overlap.target.quantities are looked up", "use overlap.target.quantities={value}"
        )
    found = {"quantities": learns}
    root = node.get("root")
    if "parts" in node:
        parts = " and ".join(f"{place}.parts.{name}.root" for name in node["parts"] or {})
        found["root"] = Idle("each part has a root of its own", f"use {parts}")
    elif root is not None:
        told = f"{place}.root={root} says where the files are, so that nothing is fetched"
        found["fetch"] = Idle(told, f"leave {place}.root out or set {place}.root=null")
        if not node.get("file"):
            found["sha256"] = Idle(f"it is compared with what is downloaded, and {told.partition(',')[0]}")
        elif Path(str(root)).expanduser().is_file():
            found["file"] = Idle(f"{place}.root={root} is the file itself", f"name the file as {place}.root={{value}}")
    return found
