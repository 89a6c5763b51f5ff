"""Read the elements and amounts of a chemical formula, and tables of formulas.

A formula has symbols with whole or decimal amounts, brackets of any kind, parts joined by a middle dot or an asterisk,
and Unicode subscripts: ``Fe2O3``, ``Ca(OH)2``, ``Fe0.7Ni0.3``, ``CuSO4·5H2O``. Oxidation states and variables are
errors.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tltool.data.formats import label_columns, tables
from tltool.data.record import Crystal
from tltool.elements import number_of
from tltool.errors import DataError

SUFFIXES = (".csv", ".tsv")
"""Suffixes of a table of formulas, before .gz, .xz or .bz2 if it is compressed."""

_DOT = "·"
_PLAIN = str.maketrans("₀₁₂₃₄₅₆₇₈₉•∙⋅*", "0123456789" + 4 * _DOT)
_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+")
_SYMBOL = re.compile(r"[A-Z][a-z]?")
_OPEN, _CLOSED = "([{", ")]}"


def composition(text: Any, where: str) -> Crystal:
    """Return the elements and amounts of the formula ``text``; raise DataError naming ``where`` for a wrong one."""
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: no formula.")
    total: dict[int, float] = {}
    for part in "".join(text.split()).translate(_PLAIN).split(_DOT):
        times = _NUMBER.match(part)
        _add(total, _part(part[times.end() :] if times else part, where), float(times[0]) if times else 1.0)
    numbers = sorted(number for number, amount in total.items() if amount)
    amounts = np.array([total[number] for number in numbers])
    if not numbers or not np.isfinite(amounts.sum()):
        raise DataError(f"{where}: the number of atoms in the formula is zero or not finite; correct it.")
    lattice, frac = np.full((3, 3), np.nan), np.full((len(numbers), 3), np.nan)
    return Crystal(lattice, frac, np.array(numbers, dtype=np.int64), amounts)


def _part(text: str, where: str) -> dict[int, float]:
    """Return {atomic number: amount} of a formula without dots."""
    groups: list[tuple[str, dict[int, float]]] = [("", {})]
    place = 0
    while place < len(text):
        symbol = _SYMBOL.match(text, place)
        if symbol:
            number = number_of(symbol[0])
            if not number:
                raise DataError(f"{where}: {symbol[0]!r} in the formula is not an element; correct it.")
            found, place = {number: 1.0}, symbol.end()
        elif text[place] in _OPEN:
            groups.append((text[place], {}))
            place += 1
            continue
        elif text[place] in _CLOSED and groups[-1][0] == _OPEN[_CLOSED.index(text[place])]:
            found, place = groups.pop()[1], place + 1
        elif text[place] in _CLOSED:
            raise DataError(f"{where}: a closing bracket in the formula has no opening bracket; correct it.")
        else:
            raise DataError(f"{where}: the formula cannot be read at {text[place : place + 8]!r}; correct it.")
        amount = _NUMBER.match(text, place)
        place = amount.end() if amount else place
        _add(groups[-1][1], found, float(amount[0]) if amount else 1.0)
    if len(groups) > 1:
        raise DataError(f"{where}: an opening bracket in the formula has no closing bracket; correct it.")
    return groups[0][1]


def _add(total: dict[int, float], part: dict[int, float], times: float) -> None:
    for number, amount in part.items():
        total[number] = total.get(number, 0.0) + times * amount


def is_table(path: Path) -> bool:
    """Return whether the name of ``path`` is that of a table that may contain formulas."""
    return tables.is_table(path) and tables.kind(path) in SUFFIXES


def attempts(path: Path) -> Iterator[tuple[str, Crystal | DataError]]:
    """Yield the id and the composition of each row of a table, or the error of a row that cannot be used.

    The table has a column ``formula`` and may have a column ``id``; without it, the ids are ``stem-1``, ``stem-2``, ...
    Raise DataError for a file that cannot be read or lacks the column, and for an id that occurs twice.
    """
    stem = path.name.split(".")[0]
    seen: dict[str, str] = {}
    for n, (where, row) in enumerate(tables.rows(path, ["formula"]), start=1):
        name = label_columns.text(row.get("id")) or f"{stem}-{n}"
        if name in seen:
            raise DataError(f"{path}: {where} and {seen[name]} have the same id {name!r}; rename or remove one.")
        seen[name] = where
        try:
            yield name, composition(row["formula"], f"{path}, {where}")
        except DataError as error:
            yield name, error
