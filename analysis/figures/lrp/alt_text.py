"""Alternative text of the picture of optimal LRP."""

from collections.abc import Mapping

import pandas as pd

from analysis.figures.lrp.compute import MEASURES
from analysis.figures.lrp.plot import TITLES
from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the alternative text of the picture, from the tables of ``compute_tables``."""
    frame = tables["lrp"].set_index("run")
    values = "; ".join(f"{TITLES[name]} is {extremes(frame[name])}" for name in MEASURES)
    return {
        "lrp": (
            "Points with intervals of optimal LRP and its three components, with a row for each of "
            f"{enumerate_names(list(frame.index))}. In points: {values}."
            f"{_differences(tables['lrp-differences'])}"
        )
    }


def _differences(frame: pd.DataFrame) -> str:
    """Return a sentence with the differences that are drawn; empty without any."""
    if frame.empty:
        return ""
    gaps = frame.set_index("run")["oLRP"]
    return (
        f" Below, points with intervals: differences from {frame['baseline'].iloc[0]}. That of "
        f"oLRP, in points, is {extremes(gaps, '+.1f')}."
    )
