"""Alternative text of the picture of distances to the teacher."""

from collections.abc import Mapping

import pandas as pd

from analysis.figures.channel_distance.compute import REGIONS
from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    means = tables["channel_distance-means"]
    by_region = {
        region: means[means["region"] == region].set_index("run")["mean"] for region in REGIONS
    }
    values = "; ".join(
        f"on {region} it is {extremes(by_region[region], '.3g')}" for region in REGIONS
    )
    runs = enumerate_names(by_region["objects"].index)
    return {
        "channel_distance": (
            f"Curves of the distance to the teacher over the channels for {runs}, on "
            f"objects and background, above the means over the channels. For the mean, {values}."
        )
    }
