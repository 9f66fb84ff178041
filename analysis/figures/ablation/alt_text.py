"""Alternative text of the picture of ablations."""

from collections.abc import Mapping

import pandas as pd

from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame], metric: str) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    frame = tables["ablation"]
    swept = frame[frame["setting"] != ""]
    rows = "; ".join(
        f"over {setting}, {metric} of {row} is {extremes(lines.set_index('value')['mean'])}"
        for (setting, row), lines in swept.groupby(["setting", "row"], sort=False)
    )
    fixed = frame[frame["setting"] == ""]
    others = [f"{row} ({mean:.1f})" for row, mean in zip(fixed["row"], fixed["mean"], strict=True)]
    lines_text = f" Horizontal lines: {enumerate_names(others)}." if others else ""
    return {"ablation": f"{metric} over the values of a setting: {rows}.{lines_text}"}
