"""Alternative texts: what a picture shows, stored in its file for readers who cannot see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import pandas as pd

PNG_KEY, PDF_KEY = "Description", "Subject"
"""Names of the text in the metadata of both formats."""


def read(path: Path) -> str:
    """Return the alternative text of a PNG file; empty if it has none."""
    with Image.open(path) as picture:
        return str(picture.info.get(PNG_KEY, ""))


def extremes(values: pd.Series, form: str = ".1f") -> str:
    """Return the largest and the smallest of some values, by the name of their rows."""
    defined = values.dropna()
    if defined.empty:
        return "undefined"
    largest, smallest = defined.max(), defined.min()
    if largest == smallest:
        return f"{largest:{form}}" + (" in all rows" if len(defined) > 1 else "")
    return (
        f"highest for {defined.idxmax()} ({largest:{form}}) "
        f"and lowest for {defined.idxmin()} ({smallest:{form}})"
    )
