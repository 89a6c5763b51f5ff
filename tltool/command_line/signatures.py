"""What a function of tltool says it takes, read from its source: to import it would import PyTorch as well.

``instantiate`` checks the same when it calls the function; here a wrong type ends a run before it begins.
"""

import ast
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word", "None": "null"}
_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}


def misfit(target: str, key: str, value: Any) -> str:
    """Return what a ``key`` of the function ``target`` must be if ``value`` is not that, such as ``a whole number``.

    Empty if it fits, and if the source does not say it in plain types.
    """
    hint = hints(target).get(key, "")
    kinds = [kind.strip() for kind in hint.split("|")]
    if kinds[0].startswith("list[") and isinstance(value, (str, int, float)) and len(kinds) <= 2:
        return f"a list, as [{value}]"
    if not hint or any(kind not in _TYPES for kind in kinds):
        return ""
    fits = type(value) in [_TYPES[kind] for kind in kinds] or ("float" in kinds and type(value) is int)
    return "" if fits else " or ".join(_WORDS[kind] for kind in kinds)


@cache
def hints(target: str) -> Mapping[str, str]:
    """Return the annotation of each keyword of ``target`` as text; empty for what is not a definition of tltool."""
    module, _, name = target.rpartition(".")
    return _hints(module, name, 3)


def _hints(module: str, name: str, imports: int) -> dict[str, str]:
    if not module.startswith("tltool.") or not imports:
        return {}
    path = files("tltool").joinpath(*module.split(".")[1:-1], f"{module.rpartition('.')[2]}.py")
    if not path.is_file():
        return {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _keywords(node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            return _keywords(made[0]) if made else {ast.unparse(f.target): ast.unparse(f.annotation) for f in fields}
        if isinstance(node, ast.ImportFrom) and any(name in (part.asname, part.name) for part in node.names):
            return _hints(node.module or "", name, imports - 1)
    return {}


def _keywords(function: ast.FunctionDef) -> dict[str, str]:
    return {one.arg: ast.unparse(one.annotation) for one in function.args.kwonlyargs if one.annotation}
