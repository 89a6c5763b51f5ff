"""Write a table of predictions as CSV or Parquet, in which words of classes may stand among numbers."""

from pathlib import Path
from typing import TYPE_CHECKING

from tltool.run_folder import spreadsheet

if TYPE_CHECKING:
    import pandas as pd


def write(table: "pd.DataFrame", path: Path) -> None:
    """Write ``table`` to ``path``, whose suffix is .csv or .parquet.

    A column of Parquet has one type: where classes stand among numbers, all are words.
    """
    if path.suffix == ".csv":
        spreadsheet.safe(table).to_csv(path, index=False)
        return
    whole = table.copy()
    for name in table:
        if table[name].dtype == object and len({type(one) for one in table[name].dropna()}) > 1:
            whole[name] = table[name].map(str, na_action="ignore")
    whole.to_parquet(path, index=False)
