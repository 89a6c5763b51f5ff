"""Runs without a comparable scratch run although a similar one exists, and the reason."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tltool.reporting.comparable import Cell, Placed, differences, grouped, is_known, place
from tltool.reporting.finished_runs import Result

_OLD = "An older version of tltool made this run and did not record its data and settings; run it again to compare it."


class Unpaired(NamedTuple):
    """Runs of one mode without a comparable scratch run, and the ``reason`` as a sentence.

    ``runs`` and ``other``, the most similar scratch run, are names as in ``Result``; ``other`` is empty for runs that
    cannot be compared with any run.
    """

    runs: tuple[str, ...]
    mode: str
    target: str
    quantity: str
    other: str
    reason: str


def unpaired(results: Sequence[Result], only: Result | None = None) -> list[Unpaired]:
    """Return transfers without a pair although similar scratch runs exist, and runs without recorded data and settings.

    ``only`` restricts this to one run. Runs are similar if they have the same quantity, and the same target name or
    data.
    """
    placed = [p for p in place(results) if p.run.stage == "transfer"]
    scratch = [p for p in placed if p.run.mode == "scratch"]
    pairs = {_pair(p) for p in scratch}
    found = [
        Unpaired((run.name,), run.mode, run.target, name, "", _OLD)
        for run in results
        for name in run.quantities
        if not is_known(run, name) and only is None
    ]
    studies = grouped(scratch, lambda p: (p.place.study, p.place.train_size))
    for p in (p for p in placed if only is None or p.run is only):
        if p.run.mode != "scratch" and _pair(p) not in pairs and (other := _nearest(p, list(studies.values()))):
            reason = f"{'; '.join(differences(p, other))}."
            # A key such as fit.epochs keeps its small letter.
            reason = reason if re.match(r"\w+[.=]", reason) else reason[0].upper() + reason[1:]
            told = (p.run.target, p.place.quantity, other.run.name, reason)
            found.append(Unpaired((p.run.name,), p.run.mode, *told))
    # One entry for all runs with the same reason, although the most similar scratch run differs between seeds.
    kinds = grouped(found, lambda u: (u.mode, u.target, u.quantity, u.reason)).values()
    return [some[0]._replace(runs=tuple(u.runs[0] for u in some)) for some in kinds]


def _pair(p: Placed) -> tuple[str, int | None, Cell]:
    return p.place.study, p.place.train_size, p.cell


def _nearest(p: Placed, studies: Sequence[Sequence[Placed]]) -> Placed | None:
    """Return the scratch run with the fewest differences to ``p`` among similar ones; None if there is none."""
    alike = [some for some in studies if _looks_like(p, some[0])]
    if not alike:
        return None
    nearest = min(alike, key=lambda some: (_apart(p, some[0]), some[0].place.train_size != p.place.train_size))
    return min(nearest, key=lambda other: sum(a != b for a, b in zip(p.cell, other.cell, strict=True)))


def _looks_like(p: Placed, other: Placed) -> bool:
    if p.place.quantity != other.place.quantity:
        return False
    return p.run.target == other.run.target or p.conditions["data"] == other.conditions["data"]


def _apart(p: Placed, other: Placed) -> int:
    keys = p.conditions.keys() | other.conditions.keys()
    return sum(p.conditions.get(key) != other.conditions.get(key) for key in keys)
