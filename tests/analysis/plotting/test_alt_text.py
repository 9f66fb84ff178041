"""Alternative texts: sentences about values, and the files that hold them."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.plotting import alt_text
from analysis.plotting.style import save


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"RM": 2.0, "PFI": 1.0}, "highest for RM (2.0) and lowest for PFI (1.0)"),
        ({"RM": 2.0, "PFI": float("nan")}, "2.0"),
        ({"RM": 2.0, "PFI": 2.0}, "2.0 in all rows"),
        ({"RM": float("nan")}, "undefined"),
    ],
)
def test_extremes_are_named(values: dict[str, float], sentence: str) -> None:
    assert alt_text.extremes(pd.Series(values)) == sentence


def test_a_file_holds_its_text_in_any_letters(tmp_path: Path) -> None:
    for number, text in enumerate(("Bars", "Größe ≥ 3, 树", None)):
        path, *_ = save(Figure((1, 1)), tmp_path / str(number), ("png",), 50, text)
        assert alt_text.read(path) == (text or "")
