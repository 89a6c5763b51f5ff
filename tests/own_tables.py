"""A user's own table beside structures: the description of such a folder, settled, and the labels read from it."""

from pathlib import Path
from typing import Any

from tltool.data import own_labels
from tltool.data.adapters import folder
from tltool.data.record import Dropped, Record
from tltool.quantities import Quantity

CIF = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Na 0 0 0
Cl 0.5 0.5 0.5
"""
NODE = {
    "_target_": "tltool.data.adapters.folder.read",
    "table": None,
    "id_column": None,
    "labels": None,
    "columns": None,
    "header_line": None,
    "decimal_commas": [],
    "repeated": "error",
    "weight": None,
    "uncertainty": None,
    "conditions": [],
    "define": {},
}


def settled(
    root: Path, text: str, name: str = "props.csv", own: dict[str, Quantity] | None = None, **keys: Any
) -> tuple[dict[str, Any], str]:
    """Return the settled description of a folder with ``text`` as its table, and what was said."""
    if text:
        (root / name).write_text(text, encoding="utf-8")
    data = {"name": "folder", "root": str(root), "quantities": None, "define": {}} | keys
    further = {key: data[key] for key in ("weight", "uncertainty", "conditions") if key in data}
    adapter = NODE | further | data.pop("adapter", {}) | {"labels": data["quantities"]}
    config = {"target": {"name": "folder", "quantities": data["quantities"], "data": data | {"adapter": adapter}}}
    told: list[str] = []
    return own_labels.settled(config, own or {}, told.append)["target"], " ".join(told)


def records(target: dict[str, Any]) -> list[Record | Dropped]:
    """Return what the adapter reads with a settled description."""
    keys = {key: value for key, value in target["data"]["adapter"].items() if key != "_target_"}
    return list(folder.read(Path(target["data"]["root"]), **keys))


def labels(target: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {item.id: dict(item.labels) for item in records(target) if isinstance(item, Record)}
