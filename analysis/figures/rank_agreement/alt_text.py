"""Alternative texts of the pictures of rank agreement."""

from collections.abc import Mapping

import pandas as pd

from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame], examples: int) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    frame = tables["rank_agreement"]
    whole = frame[frame["group"] == "all"].set_index("run")
    rows = enumerate_names(list(whole.index))
    return {
        "rank_agreement": (
            f"Points with intervals for {rows}, for all, easy and hard objects, in four panels. "
            f"The share of final boxes from the teacher's prior is "
            f"{extremes(whole['agreement'], '.2f')}; the share of objects whose first-ranked prior "
            f"is the teacher's is {extremes(whole['top1'], '.2f')}."
        ),
        "rank_agreement-objects": (
            f"{examples} objects: the three best priors of the teacher and of the students over "
            f"the image, and beside them the scores of all positive priors."
        ),
    }
