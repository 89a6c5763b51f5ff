"""What a run says of its epochs: the validation error of a number is a MAE, that of a class a probability error."""

import pytest

from tltool.run_folder.console import Screen

NAMES = {"event": "quantities", "units": {"kappa": "W/mK"}, "errors": {"kappa": "MAE", "class": "probability error"}}
EPOCH = {"event": "epoch", "epoch": 1, "epochs": 1, "train_loss": 0.5}


@pytest.mark.parametrize(
    ("errors", "line"),
    [
        ({"kappa": 1.25}, "loss 0.5000, val MAE kappa 1.25"),
        ({"class": 0.25}, "loss 0.5000, val probability error class 0.25"),
        (
            {"kappa": 1.25, "class": 0.25, "other": 2.0},
            "loss 0.5000, val MAE kappa 1.25, other 2, val probability error class 0.25",
        ),
        ({}, "loss 0.5000"),
    ],
)
def test_an_error_is_called_what_it_is(errors: dict[str, float], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("run")
    screen.log(NAMES)
    screen.log(EPOCH | {"val_MAE": errors})
    assert capsys.readouterr().err == f"epoch    1/1  {line}\n"
