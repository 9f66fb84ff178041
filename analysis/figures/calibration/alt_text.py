"""Alternative text of the reliability diagrams."""

from collections.abc import Mapping

import pandas as pd

from analysis.figures.calibration.compute import gaps, means
from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the alternative text of the picture, from the tables of ``compute_tables``."""
    errors, gap = means(tables["calibration"]), gaps(tables["calibration-bins"])
    over = enumerate_names(list(gap[gap > 0].index)) if (gap > 0).any() else "no run"
    return {
        "calibration": (
            "Precision, and precision times IoU, over the confidence of detections, with a panel "
            f"for each of {enumerate_names(list(errors.index))}. In points, D-ECE is "
            f"{extremes(errors['D-ECE'])}; LaECE is {extremes(errors['LaECE'])}. Confidence is "
            f"above precision on average in {over}. Bars below have the number of detections in "
            "each bin of confidence."
        )
    }
