import json
import re
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from tltool.data.record import Crystal
from tltool.model.property_model import PropertyModel
from tltool.training.saved_model import checkpoint

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_what_the_page_shows_runs(
    source: PropertyModel, crystals: list[Crystal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's blocks, one after another, in a folder with a pretraining and a transfer of the names that it uses."""
    text = PAGE.read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for run in set(re.findall(r'"(runs/[^"]+)"', text)):
        checkpoint.save(tmp_path / run / "model", source)
        (tmp_path / run / "status.json").write_text(json.dumps({"state": "finished", "finished": "2026"}))
    for name, second in (("NaCl", "Cl"), ("Fe2O3", "O")):
        sites = [[0, 0, 0], [0.5, 0.5, 0.5]]
        Structure(Lattice.cubic(4), [name[:2], second], sites).to(filename=f"{name}.cif")
    names: dict[str, object] = {"structures": crystals[:30], "labels": np.linspace(1, 2.4, 30)}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(block, names)
    assert len(names["table"]) == 2
    assert np.isfinite(np.asarray(names["features"])).all()
    assert np.isfinite(np.asarray(names["scores"])).all()
    assert np.isfinite(np.asarray(names["accuracy"])).all()
    assert np.asarray(names["likely"]).shape == (30, 2)
    assert (tmp_path / "my_model" / "manifest.json").is_file()
