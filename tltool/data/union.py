"""Several data sets as one, with a functional for each record: the key ``parts`` of a data YAML.

Each part is prepared separately, and shares its prepared files with other uses of that data set. The files are joined
one after another into memory-mapped arrays: each row is copied once, as in a data set of several files.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from tltool.data import dataset
from tltool.data.dataset import Dataset, Means, Prepared
from tltool.data.graph.crystal_graphs import GraphSettings
from tltool.data.origin import Mark
from tltool.errors import ConfigError, DamagedError, nearest, standing_at
from tltool.quantities import as_text, from_text, shipped

KEYS = ("name", "root", "quantities", "parts")


def opened(description: Mapping[str, Any], graph_settings: GraphSettings, means: Means, /) -> Dataset:
    """Return the data set of a YAML ``description``: a single data set, or the combination of its ``parts``.

    ``parts`` maps a name, which begins the ids, to the description of a data set. A record has the functional that it
    names, else that of its part, else the name of the part. Raise the errors of ``dataset.opened``, and ConfigError if
    there are no parts.
    """
    if "parts" not in description:
        return dataset.opened(description, graph_settings, means)
    for key in description:
        if key not in KEYS:
            raise ConfigError(f"A data set with parts has no key {key!r}.{nearest(key, KEYS)}")
    if not description["parts"]:
        raise ConfigError(f"The data set {description['name']!r} has no parts; name at least one.")
    try:
        return _opened(description, graph_settings, means)
    except DamagedError:
        return _opened(description, graph_settings, means)


def _opened(description: Mapping[str, Any], graph_settings: GraphSettings, means: Means) -> Dataset:
    began = time.perf_counter()
    made = {name: _prepared(name, part, graph_settings, means) for name, part in description["parts"].items()}
    of_part = {name: Mark(name, one.attributes.get("functional", name)) for name, one in made.items()}
    marks = [of_part[name] for name, one in made.items() for _ in one.parts]
    parts = [pair for one in made.values() for pair in one.parts]
    folder = means.cache / f"{description['name']}-{_key(made)}"
    new = not folder.is_dir()
    try:
        data = dataset.settled(parts, folder, graph_settings, _attributes(description["name"], made), marks, means.say)
    except DamagedError as error:
        dataset.forget(list(made.values()), folder, error, means.say)
        raise
    if new or any(one.fresh for one in made.values()):
        dataset.tell(data, description["name"], list(made.values()), time.perf_counter() - began, means.say)
    return data


def _prepared(name: str, part: Mapping[str, Any], graph_settings: GraphSettings, means: Means) -> Prepared:
    with standing_at(f"data.parts.{name}", "data"):
        return dataset.prepared(part, graph_settings, means)


def _key(made: Mapping[str, Prepared]) -> str:
    facts = {name: one.folder.name for name, one in made.items()}
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _attributes(name: str, made: Mapping[str, Prepared]) -> dict[str, str]:
    """Return the attributes of the combination: counts over all parts, and each different value of the parts."""
    found = {"name": name}
    for key, between in (
        ("functional", ", "),
        ("adapter", ", "),
        ("address", ", "),
        ("licence", "; "),
        ("citation", "; "),
    ):
        words = dict.fromkeys(one.attributes[key] for one in made.values() if key in one.attributes)
        found |= {key: between.join(words)} if words else {}
    known = shipped()
    own: dict[str, Any] = {}
    for one in made.values():
        text = one.attributes.get("define", "")
        definitions = json.loads(text) if text else {}
        known = known.joined(from_text(text)[key] for key in definitions)
        own |= definitions
    found |= {"define": as_text(own)} if own else {}
    return found | dataset.counts([(one.tasks, one.shards) for one in made.values()])
