"""Detections over an image, with their classes and scores, by kind: right, wrong or missed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis.plotting.overlay import DETECTION_COLOR, TRUTH_COLOR, draw_boxes
from kd.common.lettering import legible

CORNERS = ("left", "top", "right", "bottom")
"""Columns of a box, in pixels."""
MISSED_COLOR = "#0072B2"
"""Color of missed objects, of Okabe and Ito."""
KINDS: dict[str, tuple[str, Any, str]] = {
    "object": (TRUTH_COLOR, "-", "object"),
    "right": (TRUTH_COLOR, "-", "object, or correct detection"),
    "wrong": (DETECTION_COLOR, "--", "wrong detection"),
    "missed": (MISSED_COLOR, ":", "missed object"),
}
"""Color, dash and legend entry of each kind of box."""
Box = tuple[float, float, float, float]
"""Corners xyxy, in pixels."""
TEXT_SIZE, NAME_LENGTH = 6.0, 18
"""Points of the names of boxes; characters of a class's name."""
MOST_WRONG = 3
"""Wrong detections that are drawn, those with the highest scores."""


def selected_boxes(boxes: pd.DataFrame) -> pd.DataFrame:
    """Return the boxes of a panel: all but the wrong detections with lower scores."""
    wrong = boxes[boxes["kind"] == "wrong"].sort_values("score", ascending=False, kind="stable")
    return boxes.drop(index=wrong.index[MOST_WRONG:])


def draw_detections(axes: Axes, boxes: pd.DataFrame, image: tuple[int, int], height: float) -> None:
    """Draw boxes with classes and scores over an image of (H, W) pixels and a height in inches.

    ``boxes`` has the columns kind, class, score and ``CORNERS``, in pixels of the panel.
    """
    name_boxes: list[Box] = []
    pixels = TEXT_SIZE * image[0] / height / 72
    for line in boxes.to_dict("records"):
        color, dash, _ = KINDS[line["kind"]]
        left, top, right, bottom = box = [line[corner] for corner in CORNERS]
        draw_boxes(axes, np.array([box]), color, dash, cased=True)
        score = "" if np.isnan(line["score"]) else f" {line['score']:.2f}"
        name = legible(line["class"], NAME_LENGTH) + score
        # A character of the font is about 0.64 times as wide as its size.
        width = len(name) * 0.64 * pixels
        place = _free_place((left, top, right, bottom), width, 1.4 * pixels, image, name_boxes)
        if place is None:
            continue
        name_boxes.append(place)
        axes.text(
            place[0], place[1], name, fontsize=TEXT_SIZE, color="white", va="top",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 0.4, "alpha": 0.85},
        )  # fmt: skip


def _free_place(
    box: Box, width: float, height: float, image: tuple[int, int], name_boxes: Sequence[Box]
) -> Box | None:
    """Return a place for a name at a corner of its box, or None if each overlaps another name."""
    left, top, right, bottom = box
    for y in (top - height, bottom, top, bottom - height):
        for x in (left, right - width):
            x_in = min(max(x, 0), max(image[1] - width, 0))
            y_in = min(max(y, 0), max(image[0] - height, 0))
            place = (x_in, y_in, x_in + width, y_in + height)
            if not any(_overlap(place, other) for other in name_boxes):
                return place
    return None


def _overlap(first: Box, second: Box) -> bool:
    across = min(first[2], second[2]) > max(first[0], second[0])
    return across and min(first[3], second[3]) > max(first[1], second[1])


def kind_handles() -> list[Patch]:
    """Return the entries of a legend of the kinds of boxes."""
    return [
        Patch(fill=False, edgecolor=color, linestyle=dash, label=label)
        for color, dash, label in (KINDS[kind] for kind in ("right", "wrong", "missed"))
    ]


def errors_in_words(f1: float, kinds: pd.Series, separator: str = ": ") -> str:
    """Return the F1 of a run's detections in an image, and the numbers of its errors."""
    counts = [f"{(kinds == kind).sum()} {kind}" for kind in ("wrong", "missed")]
    score = "no object" if np.isnan(f1) else f"F1 {f1:.2f}"
    return f"{score}{separator}{', '.join(counts)}"
