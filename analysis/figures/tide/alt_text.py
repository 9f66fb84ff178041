"""Alternative texts of the pictures of TIDE."""

from collections.abc import Mapping

import pandas as pd

from analysis.figures.tide.compute import IOU50, mean_points
from analysis.figures.tide.errors import ERRORS, MAIN
from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    points = mean_points(tables["tide"], IOU50)
    rows = enumerate_names(list(points.index))
    shares = 100 * points["Loc"] / points[list(MAIN)].sum(axis=1)
    curves = tables["tide-thresholds"].groupby(["quantity", "iou", "run"])["points"].mean()
    last = max(tables["tide-thresholds"]["iou"])
    costs = "; ".join(
        f"{error} is {extremes(points[error])}" for error in ERRORS if points[error].any()
    )
    return {
        "tide": (
            f"Bars of the AP that each of {len(ERRORS)} error types costs at IoU 0.50, with a row "
            f"for each of {rows}. In AP points: {costs}.{_differences(tables['tide-differences'])}"
        ),
        "tide-share": (
            f"Stacked bars of the share of each main error in their sum, for {rows}. The share of "
            f"localization errors, in per cent, is {extremes(shares, '.0f')}."
        ),
        "tide-thresholds": (
            "Lines of the AP that classification and localization errors cost over the IoU "
            f"threshold, for {rows}. At IoU {last:.2f} the cost of localization errors, in AP "
            f"points, is {extremes(curves['Loc'][last])}."
        ),
    }


def _differences(frame: pd.DataFrame) -> str:
    """Return a sentence with the differences that are drawn, and those without zero."""
    rows = frame[(frame["iou"] == IOU50) & (frame["quantity"] != "AP")]
    if rows.empty:
        return ""
    nonzero = ((rows["low"] > 0) | (rows["high"] < 0)).sum()
    return (
        f" Below, points with intervals: each row's difference from {rows['baseline'].iloc[0]}. "
        f"{nonzero} of {len(rows)} intervals at IoU 0.50 do not contain zero."
    )
