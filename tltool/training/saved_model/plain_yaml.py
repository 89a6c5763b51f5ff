"""Read YAML files of other people as plain data: without aliases, tags and repeated keys, and with a limit on the size.

A few lines of aliases of aliases stand for billions of values, and a deep file ends Python's stack; both are refused
before anything is built.
"""

from itertools import islice
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


def is_bomb(text: str) -> bool:
    """Say if aliases in ``text``, with which one value stands at several places, make too many values of it.

    Text that is not YAML is none: who reads it says what is wrong.
    """
    try:
        events = list(islice(yaml.parse(text, Loader=yaml.SafeLoader), _MOST))
    except (yaml.YAMLError, RecursionError):
        return False
    if not any(isinstance(event, yaml.AliasEvent) for event in events):
        return False
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = [(None, 0)]
    for event in events:
        size, name = 1, getattr(event, "anchor", None)
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((name, 1))
            continue
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            name, size = open_.pop()
            sizes |= {name: size} if name else {}
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        open_[-1] = open_[-1][0], open_[-1][1] + size
        if open_[-1][1] > _MOST:
            return True
    return False


def _check(text: str) -> None:
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it is not plain YAML: it has an alias")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST or count > _MOST:
            raise ValueError("it is not plain YAML: it is too large or nested too deeply")
