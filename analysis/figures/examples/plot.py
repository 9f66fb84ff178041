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
IMAGE_HEIGHT = 2.0
"""Largest height of an image, in inches."""
SMALL = 6.5
"""Points of the titles of panels."""
TEXT_SIZE, NAME_LENGTH, TITLES_LENGTH = 6.0, 18, 90
"""Points of the names of boxes; characters of a class's name, and of all titles of columns."""
MOST_LONG_TITLES = 5
"""Columns in which the title of a panel fits on a line."""
MOST_WRONG = 3
"""Wrong detections that are drawn, those with the highest scores."""
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
        title_height = 0.3 if across > MOST_LONG_TITLES else 0.2
        size = (WIDTH, sum(heights) + title_height * len(heights) + 0.5)
        figure = Figure(figsize=size, layout=engine)
        grid = figure.subplots(len(rows), across, squeeze=False, height_ratios=heights)
        for panels, row, height in zip(grid, rows, heights, strict=True):
            image = images[row["image"]]
            scores = frame[frame["image"] == row["image"]].set_index("run")["f1"]
            image_boxes = boxes[boxes["image"] == row["image"]]
            for axes, run in zip(panels, ["", *runs], strict=True):
                overlay.show_image(axes, image)
                run_boxes = image_boxes[image_boxes["run"] == run]
                _draw_boxes(axes, selected_boxes(run_boxes), image.shape[:2], height)
                title = legible(Path(row["file"]).name)
                if run:
                    title = _run_title(scores[run], run_boxes["kind"], across)
                axes.set_title(title, fontsize=SMALL, fontweight="normal", pad=2)
            panels[0].annotate(_row_title(row), (0, 0.5), xytext=(-4, 0), **ROW_TITLE)
        for axes, name in zip(grid[0], ["Objects", *runs], strict=True):
            title = textwrap.fill(name, TITLES_LENGTH // across)
            axes.annotate(title, (0.5, 1), xytext=(0, 72 * title_height - 2), **COLUMN_TITLE)
        _draw_legend(figure)
    return figure


def _selected_rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return a line for each selected image, in the order of their ranks."""
    images = frame[frame["chosen"] != ""].drop_duplicates("image")
    return images.sort_values("rank").to_dict("records")


def _height(image: np.ndarray, across: int) -> float:
    """Return the height of an image in inches."""
    return min((WIDTH - 0.3) / across * image.shape[0] / image.shape[1], IMAGE_HEIGHT)


def selected_boxes(boxes: pd.DataFrame) -> pd.DataFrame:
    """Return the boxes of a panel: all but the wrong detections with lower scores."""
    wrong = boxes[boxes["kind"] == "wrong"].sort_values("score", ascending=False, kind="stable")
    return boxes.drop(index=wrong.index[MOST_WRONG:])


def _run_title(f1: float, kinds: pd.Series, across: int) -> str:
    """Return the F1 of a run's detections in an image, and the numbers of its errors."""
    counts = [f"{(kinds == kind).sum()} {kind}" for kind in ("wrong", "missed")]
    score = "no object" if np.isnan(f1) else f"F1 {f1:.2f}"
    separator = ":\n" if across > MOST_LONG_TITLES else ": "
    return f"{score}{separator}{', '.join(counts)}"


def _row_title(row: Mapping[Any, Any]) -> str:
    title = TITLES[row["chosen"]]
    return title if np.isnan(row["gain"]) else f"{title}\n({row['gain']:+.2f})".replace("-", MINUS)


def _draw_boxes(axes: Axes, boxes: pd.DataFrame, image: tuple[int, int], height: float) -> None:
    """Draw boxes with classes and scores over an image of (H, W) pixels and a height in inches."""
    name_boxes: list[Box] = []
    pixels = TEXT_SIZE * image[0] / height / 72
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


def _draw_legend(figure: Figure) -> None:
    handles = [
        Patch(fill=False, edgecolor=color, linestyle=dash, label=label)
        for color, dash, label in (KINDS[kind] for kind in ("right", "wrong", "missed"))
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
