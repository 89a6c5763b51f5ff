"""Keep a spreadsheet from taking text of a table for a formula, which it would compute when the table is opened.

Ids come from files of other people, so that a cell may begin with ``=``. Such text gets an apostrophe in front.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_BEGIN = ("=", "+", "-", "@", "\t", "\r")


def cell(value: Any) -> Any:
    """Return ``value``; text that a spreadsheet would compute gets an apostrophe in front, a number does not."""
    if not isinstance(value, str) or not value.startswith(_BEGIN):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def safe(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return ``table`` with every text cell as ``cell`` returns it."""
    names = [name for name in table.columns if table[name].dtype.kind not in "biuf"]
    return table.assign(**{name: table[name].map(cell) for name in names})
