"""The options of the command `compare`: values that make no sense are refused."""

import pytest
from gradcam_export.cli import main


def test_limits_out_of_their_range_are_refused(capsys):
    wrong = {
        "--max-flips": "1.5",
        "--min-iou": "nan",
        "--min-correlation": "-2",
        "--max-shift": "x",
        "--max-score-drift": "-1",
        "--batch-size": "0",
    }
    said = {
        "--max-flips": "'1.5' is not from 0 to 1",
        "--min-iou": "'nan' is not from 0 to 1",
        "--min-correlation": "'-2' is not from -1 to 1",
        "--max-shift": "'x' is no number",
        "--max-score-drift": "'-1' is not from 0 up",
        "--batch-size": "'0' is no whole number from 1 up",
    }
    for name, value in wrong.items():
        with pytest.raises(SystemExit, match="2"):
            main(["compare", "old", "new", "--images", "images", f"{name}={value}"])
        assert f"argument {name}: {said[name]}" in capsys.readouterr().err
