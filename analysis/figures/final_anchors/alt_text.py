"""Alternative text of the picture of final boxes and their priors."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.figures.final_anchors.compute import TEACHER

NAMES = {
    "easy": "An easy object",
    "hard": "A hard object",
    "corrected": "A corrected object",
    "random": "A random object",
}
"""Name of an object of each selection."""


def alt_texts(tables: Mapping[str, pd.DataFrame], choose: Sequence[str]) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    frame = tables["final_anchors"]
    selected = frame[frame["chosen"] != ""].sort_values("rank", kind="stable")
    objects = [_object(lines) for _, lines in selected.groupby("rank")]
    absent = [selection for selection in choose if not (selected["chosen"] == selection).any()]
    objects += [f"No object is {selection}." for selection in absent]
    return {
        "final_anchors": (
            "Parts of test images with an object, the final box of each run and the prior of that "
            "box. " + " ".join(objects)
        )
    }


def _object(lines: pd.DataFrame) -> str:
    runs = "; ".join(_run(line) for line in lines.to_dict("records"))
    return f"{NAMES[lines['chosen'].iloc[0]]} ({lines['class'].iloc[0]}): {runs}."


def _run(line: Mapping[Any, Any]) -> str:
    if pd.isna(line["iou"]):
        return f"{line['run']} has no final box"
    prior = (
        ""
        if pd.isna(line["same"]) or line["run"] == TEACHER
        else (", the teacher's prior" if line["same"] else ", another prior")
    )
    return f"{line['run']} IoU {line['iou']:.2f}{prior}"
