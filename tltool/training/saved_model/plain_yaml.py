"""Read YAML files of other people as plain data: without aliases, tags and repeated keys, and with a limit on the size.

A few lines of aliases of aliases stand for billions of values, and a deep file ends Python's stack; both are refused
before anything is built.
"""

from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

_MOST = 2_000_000  # events: keys, values and brackets
_DEEPEST = 40


def parsed(text: str) -> Any:
    """Return the data in ``text``; raise ValueError with a reason if it is not plain YAML."""
    try:
        _check(text)
        return OmegaConf.to_container(OmegaConf.create(text))
    except (yaml.YAMLError, OmegaConfBaseException, AssertionError) as error:
        raise ValueError(f"it is not plain YAML: {' '.join(str(error).split())[:200]}") from error


def _check(text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it is not plain YAML: it has an alias")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or count > _MOST:
            raise ValueError("it is not plain YAML: it is too large or nested too deeply")
