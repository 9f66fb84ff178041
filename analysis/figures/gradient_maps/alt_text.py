"""Alternative texts of the pictures of gradient maps."""

from collections.abc import Mapping

import pandas as pd

from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    maps, means = tables["gradient_maps"], tables["gradient_maps-means"]
    total = means[means["term"] == "total"]
    finest = total[total["level"] == total["level"].min()]
    rows = enumerate_names(list(total["run"].unique()))
    strides = enumerate_names([str(stride) for stride in sorted(total["stride"].unique())])
    return {
        "gradient_maps": (
            f"Maps of the norm of the loss's gradient over gray images with "
            f"their objects outlined, for each of {rows} and each level of the neck (strides "
            f"{strides}). Number of images: {maps['image'].nunique()}."
        ),
        "gradient_maps-means": (
            f"Marks of the ratio of the mean gradient on objects to that on background for {rows}, "
            f"one row for each loss term, one column for each level of the neck. At stride "
            f"{finest['stride'].iloc[0]} the ratio of the total gradient is "
            f"{extremes(finest.set_index('run')['ratio'], '.2g')}."
        ),
    }
