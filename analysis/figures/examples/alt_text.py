"""Alternative text of the picture of examples."""

from collections.abc import Mapping

import pandas as pd

from kd.common.lists import enumerate_names

SELECTIONS = {
    "gain": "with the largest gain",
    "loss": "with the largest loss",
    "random": "at random",
}


def alt_texts(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the alternative text of each picture, from the tables of ``compute_tables``."""
    frame = tables["examples"]
    selected = frame[frame["chosen"] != ""].sort_values("rank", kind="stable")
    if selected.empty:
        return {"examples": "No image could be selected."}
    images = [_image(lines) for _, lines in selected.groupby("rank")]
    return {
        "examples": (
            f"Test images with boxes: one column for the objects, then one for the detections of "
            f"each of {enumerate_names(list(frame['run'].unique()))}. Rows: {'; '.join(images)}."
        )
    }


def _image(lines: pd.DataFrame) -> str:
    scores = [
        f"{run} {score:.2f}"
        for run, score in zip(lines["run"], lines["f1"], strict=True)
        if not pd.isna(score)
    ]
    return f"an image {SELECTIONS[lines['chosen'].iloc[0]]} (F1: {', '.join(scores) or 'none'})"
