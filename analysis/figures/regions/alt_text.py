"""Alternative text of the picture of regions."""

from collections.abc import Mapping

import pandas as pd

from kd.common.lists import enumerate_names


def alt_texts(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    runs = [
        f"{run}: {enumerate_names(_regions(lines))}"
        for run, lines in tables["regions"].groupby("run", sort=False)
    ]
    return {"regions": f"A training image with its objects and the regions of {'; '.join(runs)}."}


def _regions(lines: pd.DataFrame) -> list[str]:
    """Return the regions of a run in words, such as "12 boxes (proposals)"."""
    maps = lines[lines["kind"] == "map"].groupby("quantity", sort=False)["region"]
    texts = [f"maps of the {quantity} ({', '.join(regions)})" for quantity, regions in maps]
    others = lines[lines["kind"] != "map"].to_dict("records")
    return texts + [f"{line['count']} {line['kind']} ({line['region']})" for line in others]
