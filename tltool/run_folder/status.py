"""Read ``status.json`` of a run folder, whatever stands there: a file of another program ends no command."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "status.json"


def read(folder: Path) -> Mapping[str, Any]:
    """Return the content of ``status.json`` in ``folder``, empty if there is none that a run of tltool wrote."""
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("state"), str) else {}
