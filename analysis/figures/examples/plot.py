"""Picture of examples: a row for each selected image, a column for each run."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from analysis.figures.examples.compute import CORNERS, Selection
from analysis.plotting import overlay
from analysis.plotting.lettering import legible
from analysis.plotting.panels import message_figure
from analysis.plotting.style import STYLE, WIDTH
from analysis.tables.formatting import MINUS

TITLES: dict[Selection, str] = {
    "gain": "Largest gain",
    "loss": "Largest loss",
    "random": "At random",
}
MISSED_COLOR = "#0072B2"
"""Color of missed objects, of Okabe and Ito."""
KINDS: dict[str, tuple[str, Any, str]] = {
    "object": (overlay.TRUTH_COLOR, "-", "object"),
    "right": (overlay.TRUTH_COLOR, "-", "object, or correct detection"),
    "wrong": (overlay.DETECTION_COLOR, "--", "wrong detection"),
    "missed": (MISSED_COLOR, ":", "missed object"),
}
"""Color, dash and legend entry of each kind of box."""
Box = tuple[float, float, float, float]
"""Corners xyxy, in pixels."""
IMAGE_HEIGHT = 1.5
"""Largest height of an image, in inches."""
TEXT_SIZE, NAME_LENGTH, TITLES_LENGTH = 4.5, 18, 90
"""Points of the names of boxes; characters of a class's name, and of all titles of columns."""
SMALL_HEIGHT = 1.4
"""Height of an image in inches below which names are smaller."""
CASING: dict[str, Any] = {"linewidth": 1.9, "foreground": "white", "alpha": 0.75}
"""Light casing of the lines of boxes, which separates them from an image of similar color."""
ROW_TITLE: dict[str, Any] = {
    "xycoords": "axes fraction", "textcoords": "offset points", "rotation": 90,
    "ha": "right", "va": "center", "fontsize": 7,
}  # fmt: skip
COLUMN_TITLE: dict[str, Any] = {
    "xycoords": "axes fraction", "textcoords": "offset points",
    "ha": "center", "va": "bottom", "fontsize": 8, "fontweight": "bold",
}  # fmt: skip


def plot_figures(
    tables: Mapping[str, pd.DataFrame], images: Mapping[Any, np.ndarray]
) -> dict[str, Figure]:
    """Return the picture of the tables of ``compute_tables``, by name."""
    return {"examples": plot(tables["examples"], tables["examples-boxes"], images)}


def plot(frame: pd.DataFrame, boxes: pd.DataFrame, images: Mapping[Any, np.ndarray]) -> Figure:
    """Return a row for each selected image: its objects, then the detections of each run.

    ``frame`` and ``boxes`` are the tables of ``compute_tables``; ``images`` are (H, W, 3), 0 to 1.
    """
    runs = [str(run) for run in frame["run"].unique()]
    rows = _selected_rows(frame)
    across = len(runs) + 1
    if not rows:
        return message_figure("no image to show")
    heights = [_height(images[row["image"]], across) for row in rows]
    with rc_context(STYLE):
        engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        size = (WIDTH, sum(heights) + 0.2 * len(heights) + 0.5)
        figure = Figure(figsize=size, layout=engine)
        grid = figure.subplots(len(rows), across, squeeze=False, height_ratios=heights)
        for panels, row, height in zip(grid, rows, heights, strict=True):
            image = images[row["image"]]
            scores = frame[frame["image"] == row["image"]].set_index("run")["f1"]
            image_boxes = boxes[boxes["image"] == row["image"]]
            for axes, run in zip(panels, ["", *runs], strict=True):
                overlay.show_image(axes, image)
                _draw_boxes(axes, image_boxes[image_boxes["run"] == run], image.shape[:2], height)
                title = _f1_title(scores[run]) if run else legible(Path(row["file"]).name)
                axes.set_title(title, fontsize=6, fontweight="normal", pad=2)
            panels[0].annotate(_row_title(row), (0, 0.5), xytext=(-4, 0), **ROW_TITLE)
        for axes, name in zip(grid[0], ["Objects", *runs], strict=True):
            title = textwrap.fill(name, TITLES_LENGTH // across)
            axes.annotate(title, (0.5, 1), xytext=(0, 11), **COLUMN_TITLE)
        _draw_legend(figure)
    return figure


def _selected_rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return a line for each selected image, in the order of their ranks."""
    images = frame[frame["chosen"] != ""].drop_duplicates("image")
    return images.sort_values("rank").to_dict("records")


def _height(image: np.ndarray, across: int) -> float:
    """Return the height of an image in inches."""
    return min((WIDTH - 0.3) / across * image.shape[0] / image.shape[1], IMAGE_HEIGHT)


def _f1_title(value: float) -> str:
    return "no object" if np.isnan(value) else f"F1 {value:.2f}"


def _row_title(row: Mapping[Any, Any]) -> str:
    title = TITLES[row["chosen"]]
    return title if np.isnan(row["gain"]) else f"{title}\n({row['gain']:+.2f})".replace("-", MINUS)


def _draw_boxes(axes: Axes, boxes: pd.DataFrame, image: tuple[int, int], height: float) -> None:
    """Draw boxes with classes and scores over an image of (H, W) pixels and a height in inches."""
    name_boxes: list[Box] = []
    text_size = TEXT_SIZE * min(1, height / SMALL_HEIGHT)
    pixels = text_size * image[0] / height / 72
    for line in boxes.to_dict("records"):
        color, dash, _ = KINDS[line["kind"]]
        left, top, right, bottom = box = [line[corner] for corner in CORNERS]
        overlay.draw_boxes(axes, np.array([box]), color, dash)
        axes.patches[-1].set_path_effects([withStroke(**CASING)])
        score = "" if np.isnan(line["score"]) else f" {line['score']:.2f}"
        name = legible(line["class"], NAME_LENGTH) + score
        # A character of the font is about 0.64 times as wide as its size.
        width = len(name) * 0.64 * pixels
        place = _free_place((left, top, right, bottom), width, 1.4 * pixels, image, name_boxes)
        if place is None:
            continue
        name_boxes.append(place)
        axes.text(
            place[0], place[1], name, fontsize=text_size, color="white", va="top",
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


def _draw_legend(figure: Figure) -> None:
    handles = [
        Patch(fill=False, edgecolor=color, linestyle=dash, label=label)
        for color, dash, label in (KINDS[kind] for kind in ("right", "wrong", "missed"))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
