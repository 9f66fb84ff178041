"""Alternative texts of the pictures of COCO's error breakdown."""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.figures.coco_errors.compute import (
    OVERALL,
    defined_parts,
    first_category,
    seed_means,
)
from analysis.plotting.alt_text import extremes
from kd.common.lists import enumerate_names


def alt_texts(
    tables: Mapping[str, pd.DataFrame], area: str, categories: Sequence[str]
) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    numbers = seed_means(tables["coco_errors"])
    here = numbers[numbers["area"] == area]
    overall = here[here["category"] == OVERALL].set_index("run")
    rows, parts = enumerate_names(list(overall.index)), defined_parts(overall)
    first = overall.index[0]
    by_category = here[(here["run"] == first) & here["category"].isin(categories)]
    ap50, ap75 = extremes(overall["C50"]), extremes(overall["C75"])
    areas = "objects of all areas" if area == "all" else f"{area} objects"
    losses = "; ".join(f"{part} is {extremes(overall[part])}" for part in parts)
    return {
        "coco_errors": (
            f"Stacked bars for {rows} that divide 100 AP points into what is detected and what "
            f"each error costs, one panel for each range of object areas. For {areas}, AP50 is "
            f"{ap50}."
        ),
        "coco_errors-parts": (
            f"Bars of AP50 and of each loss for {rows}, one panel for each loss and range of "
            f"object areas. For {areas}, in AP points: {losses}."
        ),
        "coco_errors-curves": (
            f"Precision over recall for {rows}, one panel each, with one curve for each rule from "
            f"IoU 0.75 to no error at all. The area between two curves is the AP that one error "
            f"costs. AP50 is {ap50}."
        ),
        "coco_errors-areas": _describe_areas(tables["coco_errors-curves"]),
        "coco_errors-precision": (
            f"Precision over recall with a line for each of {rows}. At IoU 0.50 AP is {ap50}; at "
            f"IoU 0.75 it is {ap75}."
        ),
        "coco_errors-by-category": (
            f"Marks of AP50 and of each loss for {rows}, with a line for each category. AP50 of "
            f"{first} is {extremes(by_category.set_index('category')['C50'])}."
        ),
    }


def _describe_areas(curves: pd.DataFrame) -> str:
    category = first_category(curves)
    lines = curves[curves["category"] == category]
    aps = (
        100 * lines[lines["area"] == lines["area"].iloc[0]].groupby("run", sort=False)["C50"].mean()
    )
    return (
        f"Precision over recall for {category}: a row of panels for each of "
        f"{enumerate_names(list(aps.index))}, a column for each range of object areas. The area "
        f"between two curves is the AP that one error costs. In the first column AP50 is "
        f"{extremes(aps)}."
    )
