"""No cell of a table that tltool writes is a formula of a spreadsheet."""

from pathlib import Path

import pandas as pd

from tltool.run_folder.run import Run


def test_text_that_a_spreadsheet_computes_gets_an_apostrophe(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", "eval")
    ids = ['=HYPERLINK("http://x","y")', "+cmd", "@SUM(A1)", "-a", "\tx", "-1.5", "mp-1", "+2"]
    run.write_predictions([{"id": name, "label": -1.0, "prediction": 2.0, "formula": "Na"} for name in ids])
    run.close("finished", 0, "")
    table = pd.read_csv(tmp_path / "run" / "predictions.csv", dtype=str)
    assert table.id.tolist() == [*(f"'{name}" for name in ids[:5]), *ids[5:]]
    assert table.label.tolist() == ["-1.0"] * len(ids)
    assert pd.read_parquet(tmp_path / "run" / "predictions.parquet").id.tolist() == ids
