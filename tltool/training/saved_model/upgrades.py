"""The forms that ``model.yaml`` has had: one function for each, which turns it into the next.

``UPGRADES`` lists them from the oldest; ``SCHEMA`` is today's form, the only one that ``saved_parts`` and
``checkpoint`` know. Whoever changes what ``model.yaml`` says, a key, a name or a word in it, appends a function here
and runs ``scripts/build_stored_models.py``, which stores models of the new form for the tests of later versions.

A function takes and returns plain data, and leaves what it does not know as it is: the reader of today's form refuses
that with its reason.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tltool.errors import CheckpointError
from tltool.instantiate import MODEL
from tltool.quantities import described, shipped
from tltool.renamed import brought_up, renamed_part

Spec = dict[str, Any]
Node = dict[str, Any]


def schema_1_to_2(spec: Spec) -> Spec:
    """Name each part by its class alone, ``part: CGCNN``; schema 1 had ``_target_`` with the module (0.1.0)."""
    return _with_parts(spec, _named)


def schema_2_to_3(spec: Spec) -> Spec:
    """Give parts and their keys today's names, such as ``extra_features`` for ``beside`` (0.1.0)."""
    return _with_parts(spec, _renamed)


def schema_3_to_4(spec: Spec) -> Spec:
    """Define each quantity; schema 3 had its unit alone, and its name was one of those that ship (0.1.0)."""
    found = spec.get("quantities")
    if not isinstance(found, Mapping):
        return spec
    return {**spec, "quantities": {name: _definition(name, unit) for name, unit in found.items()}}


def _definition(name: Any, unit: Any) -> Any:
    about = shipped().get(name)
    return described(about) if isinstance(unit, str) and about is not None else unit


UPGRADES: tuple[Callable[[Spec], Spec], ...] = (schema_1_to_2, schema_2_to_3, schema_3_to_4)
"""Each turns a schema into the next; the first turns 1 into 2."""

SCHEMA = len(UPGRADES) + 1
"""The schema that is written today."""


def upgraded(spec: Spec, where: str) -> Spec:
    """Return ``spec``, of any schema there was, in the form of today's; ``where`` is the file for error messages.

    Raise CheckpointError for a schema that is newer than today's, or that there never was.
    """
    schema = spec.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise CheckpointError(
            f"{where} has schema {schema}, which no version of tltool has written; copy the whole model folder again."
        )
    if schema > SCHEMA:
        raise CheckpointError(
            f"{where} has schema {schema}, but this version of tltool reads schemas 1 to {SCHEMA}; upgrade tltool."
        )
    for upgrade in UPGRADES[schema - 1 :]:
        spec = upgrade(spec)
    return {**spec, "schema": SCHEMA}


def _with_parts(spec: Spec, change: Callable[[Node], Node]) -> Spec:
    """Return ``spec`` with ``change`` made to the node of every part, those within a part (``parts``) included."""

    def changed(node: Any) -> Any:
        if not isinstance(node, Mapping):
            return node
        node = change({str(key): value for key, value in node.items()})
        parts = node.get("parts")
        if isinstance(parts, Mapping):
            node = {**node, "parts": {key: changed(part) for key, part in parts.items()}}
        return node

    return {key: changed(value) if key in MODEL else value for key, value in spec.items()}


def _named(node: Node) -> Node:
    if "part" in node or not isinstance(node.get("_target_"), str):
        return node
    home, _, name = str(node["_target_"]).rpartition(".")
    part = name if home.startswith("tltool.model.") else node["_target_"]
    return {"part": part, **{key: value for key, value in node.items() if key != "_target_"}}


def _renamed(node: Node) -> Node:
    # A part with a dotted name is of a user's own package, whose keys may be called anything.
    if not isinstance(node.get("part"), str) or "." in node["part"]:
        return node
    rest = {key: value for key, value in node.items() if key not in ("part", "parts")}
    kept = {"parts": node["parts"]} if "parts" in node else {}
    return {"part": renamed_part(node["part"]), **brought_up(rest), **kept}
