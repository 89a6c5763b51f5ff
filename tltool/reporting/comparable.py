"""Which runs can be compared, and why two similar runs cannot.

Runs are compared by the data behind their errors (``identity`` in metrics.json, made by ``tltool.evaluation.digests``),
never by names. A study is a set of runs that may be averaged: same data, quantity, base, shape, kind of split, fit and
optimiser. In a study, a mode and scratch form a pair if seed and training and test crystals with their labels are the
same.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

from tltool.reporting.finished_runs import Result

K = TypeVar("K")
T = TypeVar("T")
SCHEMA = 1
_DRAWN = ("seed", "draw", "fold", "file", "train_size")  # keys of a split that vary within one study
_ALIKE = 1.1  # largest ratio of training sizes that count as one size if the split sets no size


class Place(NamedTuple):
    """The properties that runs must share to be averaged.

    ``study`` is a digest of the conditions of the runs, without the training size. ``target`` and ``data`` are names
    for the reader only; ``note`` says how the study differs from others with the same names. ``overlap`` is the rule
    that removed test crystals, or empty: such runs are averaged separately, and are pairs if they have the same test
    crystals.
    """

    stage: str
    target: str
    data: str
    quantity: str
    train_size: int | None
    study: str = ""
    note: str = ""
    overlap: str = ""


class Cell(NamedTuple):
    """One run of a study: its seed, how its rows were drawn, and a digest of its rows with their labels.

    ``file`` is the name of the split file, or empty. A mode and scratch with the same cell are a pair.
    """

    seed: int | None
    split_seed: int | None
    draw: int | None
    fold: int | None
    file: str
    rows: str


class Placed(NamedTuple):
    """A run and one of its quantities with their place; ``Place.study`` is the digest of ``conditions``."""

    place: Place
    cell: Cell
    run: Result
    conditions: Mapping[str, str]


def is_known(run: Result, quantity: str) -> bool:
    """Return whether a run recorded the data and settings behind its error of ``quantity``."""
    identity = run.identity
    words = [identity.get(key) for key in ("train", "val", "shape")]
    tables = [identity.get(key) for key in ("quantities", "split", "overlap", "data", "test")]
    return (
        identity.get("schema") == SCHEMA
        and all(isinstance(word, str) for word in words)
        and all(isinstance(table, dict) for table in tables)
        and all(isinstance(identity[key].get(quantity), str) for key in ("data", "test"))
    )


def place(results: Iterable[Result]) -> list[Placed]:
    """Return every quantity of every run that recorded its data and settings (``is_known``), with its place."""
    pairs = [(run, name) for run in results for name in run.quantities if is_known(run, name)]
    splits = {
        (name, _rows(run, name)): (run.identity["split"], (run.split_seed, run.draw, run.fold, ""))
        for run, name in pairs
        if not _is_written_down(run.identity["split"])
    }
    found = []
    for run, name in pairs:
        split, rows = run.identity["split"], _rows(run, name)
        drawn = (run.split_seed, run.draw, run.fold, _file(split))
        if _is_written_down(split):
            # An earlier run's split.csv gives that run's rows, so the two can be compared.
            split, drawn = splits.get((name, rows), (split, drawn))
        conditions = _conditions(run, name, split)
        study = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:16]
        where = Place(run.stage, run.target, run.data, name, run.train_size, study)
        found.append((Placed(where, Cell(run.seed, *drawn, rows), run, conditions), split.get("train_size")))
    return _ruled(_noted(_named(_sized(found))))


def differences(one: Placed, other: Placed) -> list[str]:
    """Return the reasons why two runs cannot be compared, as clauses; empty if they can."""
    told = _keys_told(one, other)
    if not told:
        sizes = [f"{p.place.train_size:,}" for p in (one, other) if p.place.train_size is not None]
        if len(set(sizes)) > 1:
            told.append(f"they have {' and '.join(sizes)} training crystals")
    if not told:
        for key in ("seed", "split_seed", "draw", "fold", "file"):
            word = key if key == "seed" else f"split.{key.removeprefix('split_')}"
            pair = [getattr(p.cell, key) for p in (one, other)]
            if pair[0] != pair[1]:
                told.append(f"{word} is {_plain(pair[0])} and {_plain(pair[1])}")
    if not told and one.cell.rows != other.cell.rows:
        name, left = one.place.quantity, [_left_out(p.run) for p in (one, other)]
        if left[0] != left[1]:
            return [f"overlap=drop_test removed {left[0]} and {left[1]} test crystals"]
        same = [p.run.identity["test"][name] for p in (one, other)]
        of = "test" if same[0] != same[1] else "training or validation"
        told.append(f"the {of} crystals or their labels differ")
    return told


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """Return {key: items with that key}, all in the order of ``items``."""
    found: dict[K, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def flat(node: Any, name: str = "") -> dict[str, str]:
    """Return ``node`` as {dotted key: value in JSON}, without the seeds of estimators."""
    if isinstance(node, Mapping) and node:
        parts = [flat(value, f"{name}.{key}".lstrip(".")) for key, value in node.items() if key != "random_state"]
        return {key: value for part in parts for key, value in part.items()}
    return {name: json.dumps(node, sort_keys=True, default=str)}


def _conditions(run: Result, quantity: str, split: Mapping[str, Any]) -> dict[str, str]:
    """Return the conditions that runs of one study share, without the training size: {dotted key: value in JSON}."""
    identity = run.identity
    of_split = {key: value for key, value in split.items() if key not in _DRAWN}
    facts = {
        "stage": run.stage,
        "quantity": [quantity, identity["quantities"].get(quantity)],
        "together": sorted(identity["quantities"]),
        "data": identity["data"][quantity],
        "base": identity.get("base"),
        "shape": identity["shape"],
    }
    settings = {key: run.settings.get(key) or {} for key in ("fit", "optimiser")}
    return {key: json.dumps(value) for key, value in facts.items()} | flat({"split": of_split, **settings})


def _rows(run: Result, quantity: str) -> str:
    return " ".join([run.identity["test"][quantity], run.identity["train"], run.identity["val"]])


def _is_written_down(split: Mapping[str, Any]) -> bool:
    return "file" in split


def _file(split: Mapping[str, Any]) -> str:
    return str(split.get("file") or "").rpartition("/")[2]


def _sized(found: Sequence[tuple[Placed, Any]]) -> list[Placed]:
    """Give runs whose split sets no size the mean size of similar runs: with a hash or a file it varies a little."""
    shown: dict[tuple[str, int], int] = {}
    free = [p for p, asked in found if asked is None and p.place.train_size]
    for study, some in grouped(free, lambda p: p.place.study).items():
        bucket: list[int] = []
        for size in [*sorted(p.place.train_size or 0 for p in some), 0]:
            if bucket and not bucket[0] <= size <= _ALIKE * bucket[0]:
                shown |= {(study, each): round(fmean(bucket)) for each in bucket}
                bucket = []
            bucket.append(size)

    def size_of(p: Placed, asked: Any) -> int | None:
        return p.place.train_size if asked is not None else shown.get((p.place.study, p.place.train_size or 0))

    return [p._replace(place=p.place._replace(train_size=size_of(p, asked))) for p, asked in found]


def _ruled(found: Sequence[Placed]) -> list[Placed]:
    """Set ``Place.overlap`` in studies in which the rule removed a test crystal."""
    dropped = {p.place.study for p in found if _left_out(p.run)}
    rules = [str(p.run.identity["overlap"].get("rule")) for p in found]
    hit = [rule == "drop_test" and p.place.study in dropped for p, rule in zip(found, rules, strict=True)]
    return [
        p._replace(place=p.place._replace(overlap=rule)) if is_hit else p
        for p, rule, is_hit in zip(found, rules, hit, strict=True)
    ]


def _left_out(run: Result) -> int:
    count = run.identity["overlap"].get("left_out")
    return count if isinstance(count, int) else 0


def _named(found: Sequence[Placed]) -> list[Placed]:
    """Give all runs of a study the target and data names of its first run, so that they stay together."""
    first: dict[str, Place] = {}
    for p in found:
        first.setdefault(p.place.study, p.place)
    return [
        p._replace(place=p.place._replace(target=first[p.place.study].target, data=first[p.place.study].data))
        for p in found
    ]


def _noted(found: Sequence[Placed]) -> list[Placed]:
    """Set ``Place.note`` of studies with the same name to the conditions in which they differ."""
    notes: dict[str, str] = {}
    for some in grouped(found, lambda p: p.place[:4]).values():
        of = {study: them[0] for study, them in grouped(some, lambda p: p.place.study).items()}
        keys = [k for k in _all_keys(*of.values()) if len({p.conditions.get(k) for p in of.values()}) > 1]
        for study, p in of.items():
            notes[study] = ", ".join(dict.fromkeys(filter(None, (_short(p, key, of.values()) for key in keys))))
    return [p._replace(place=p.place._replace(note=notes[p.place.study])) for p in found]


def _short(p: Placed, key: str, others: Iterable[Placed]) -> str:
    """Return the value of the condition ``key`` of a study as words; ``others`` have other values."""
    identity = p.run.identity
    if key == "data":
        files = {(str(q.run.identity.get("file") or ""), q.conditions["data"]) for q in others}
        name = str(identity.get("file") or "")
        # Files with the same name, or without a name, differ only in the digest of their content.
        return name if name and sum(f == name for f, _ in files) == 1 else f"{name or 'data'} {_value(p, key)[:6]}"
    if key == "base":
        return f"difference to {identity.get('base_name') or 'a base'}" if identity.get("base") else "values themselves"
    if key == "together":
        names = sorted(identity["quantities"])
        return f"{' and '.join(names)} learnt together" if len(names) > 1 else ""
    if key == "shape":
        return f"shape {identity['shape'][:6]}"
    return f"{key}={_value(p, key)}" if key in p.conditions else ""


def _keys_told(one: Placed, other: Placed) -> list[str]:
    """Return a clause for each difference between the conditions of two runs."""
    both = [p.run.identity for p in (one, other)]
    told = []
    for key in (k for k in _all_keys(one, other) if one.conditions.get(k) != other.conditions.get(k)):
        if key == "data":
            names = [str(b.get("file") or "") for b in both]
            files = f" ({names[0]} and {names[1]})" if all(names) and names[0] != names[1] else ""
            told.append(f"the data differ{files}")
        elif key == "base":
            words = [f"the difference to {b.get('base_name') or 'a base'}" if b.get("base") else "values" for b in both]
            same = words[0] == words[1]
            told.append("the bases differ" if same else f"one learns {words[0]}, the other {words[1]}")
        elif key == "together":
            words = [" and ".join(sorted(b["quantities"])) for b in both]
            told.append(f"one learns {words[0]}, the other {words[1]}")
        elif key == "quantity":
            told.append(f"units are {' and '.join(str(b['quantities'].get(one.place.quantity)) for b in both)}")
        elif key == "shape":
            told.append("the models differ in shape, because their sources have different settings")
        else:
            told.append(f"{key} is {_value(one, key)} and {_value(other, key)}")
    return told


def _all_keys(*placed: Placed) -> list[str]:
    return list(dict.fromkeys(key for p in placed for key in p.conditions))


def _value(p: Placed, key: str) -> str:
    text = p.conditions.get(key)
    word = "not set" if text is None else _plain(json.loads(text))
    return word.rpartition(".")[2] if key.endswith("_target_") else word


def _plain(value: Any) -> str:
    return "null" if value is None else value if isinstance(value, str) else json.dumps(value)
