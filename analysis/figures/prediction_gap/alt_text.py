"""Alternative texts of the pictures of the prediction gap."""

from collections.abc import Mapping

import pandas as pd

from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame], examples: int, level: int) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    frame = tables["prediction_gap"]
    finest = frame[frame["level"] == frame["level"].min()]
    rows = enumerate_names(list(frame["run"].unique()))
    return {
        "prediction_gap": (
            f"Points with intervals of the similarity of prediction gap and feature gap for "
            f"{rows}, one column for each level of the neck. Spearman's rho at stride "
            f"{finest['stride'].iloc[0]} is "
            f"{extremes(finest.set_index('run')['spearman'], '.2f')}."
        ),
        "prediction_gap-maps": (
            f"Maps of the prediction gap and, below, of the feature gap at level {level} of the "
            f"neck, one column for each run. Number of images: {examples}. Rings mark groups of "
            f"cells whose features differ although predictions agree: {_ring_counts(tables)}."
        ),
    }


def _ring_counts(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the number of rings of each run."""
    marks = tables["prediction_gap-marks"]
    runs = tables["prediction_gap"]["run"].unique()
    return enumerate_names([f"{(marks['run'] == run).sum()} of {run}" for run in runs])
