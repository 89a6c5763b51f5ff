"""What a run shows of its results: digits that an interval is worth, and one line in a sweep."""

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tltool.evaluation.result_tables import digits, in_a_line
from tltool.quantities import described, shipped

NUMBER = {"unit": "log10(GPa)", "definition": described(shipped()["log10_K_VRH"])}
CLASS = {"unit": "1", "definition": {"unit": "1", "kind": "class", "classes": ["metal", "oxide", "other"]}}


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_digits_follow_the_interval(value: float, width: float) -> None:
    text = digits(value, width)
    assert abs(float(text) - value) <= width / 20 * 1.0001
    assert digits(123.456, 20.0) == "123"
    assert digits(1.23456, 0.04) == "1.235"
    assert digits(12345.6, 4000.0) == "12300"
    assert digits(-0.3, 20.0) == "0"
    assert digits(1.23456, float("nan")) == "1.235"


def line(folder: Path, **quantities: dict[str, Any]) -> str:
    (folder / "metrics.json").write_text(json.dumps({"quantities": quantities}))
    return in_a_line(folder)


def test_a_line_has_the_error_that_models_are_compared_by(tmp_path: Path) -> None:
    number = NUMBER | {"test": {"n": 5, "MAE": 0.123456, "RMSE": 9.0}}
    a_class = CLASS | {"test": {"n": 5, "Brier": 0.23456, "accuracy": 0.9}}
    assert line(tmp_path, log10_K_VRH=number) == "MAE 0.1235 log10(GPa)"
    assert line(tmp_path, phase=a_class) == "Brier 0.2346"
    assert line(tmp_path, log10_K_VRH=number, phase=a_class) == "log10_K_VRH MAE 0.1235 log10(GPa), phase Brier 0.2346"
    assert line(tmp_path, log10_K_VRH=NUMBER | {"test": {"n": 0}}) == "", "no test row has a label"
