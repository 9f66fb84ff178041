"""Picture of examples: a row for each selected image, a column for each run."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.figures.examples.compute import Selection
from analysis.plotting.detections import (
    draw_detections,
    errors_in_words,
    kind_handles,
    selected_boxes,
)
from analysis.plotting.overlay import show_image
from analysis.plotting.panels import message_figure
from analysis.plotting.style import STYLE, WIDTH
from analysis.tables.formatting import MINUS
from kd.common.lettering import legible

TITLES: dict[Selection, str] = {
    "gain": "Largest gain",
    "loss": "Largest loss",
    "random": "At random",
}
IMAGE_HEIGHT = 2.0
"""Largest height of an image, in inches."""
SMALL = 6.5
"""Points of the titles of panels."""
TITLES_LENGTH = 90
"""Characters of all titles of columns."""
MOST_LONG_TITLES = 5
"""Columns in which the title of a panel fits on a line."""
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
        separator = ":\n" if across > MOST_LONG_TITLES else ": "
        title_height = 0.3 if across > MOST_LONG_TITLES else 0.2
        size = (WIDTH, sum(heights) + title_height * len(heights) + 0.5)
        figure = Figure(figsize=size, layout=engine)
        grid = figure.subplots(len(rows), across, squeeze=False, height_ratios=heights)
        for panels, row, height in zip(grid, rows, heights, strict=True):
            image = images[row["image"]]
            scores = frame[frame["image"] == row["image"]].set_index("run")["f1"]
            image_boxes = boxes[boxes["image"] == row["image"]]
            for axes, run in zip(panels, ["", *runs], strict=True):
                show_image(axes, image)
                run_boxes = image_boxes[image_boxes["run"] == run]
                draw_detections(axes, selected_boxes(run_boxes), image.shape[:2], height)
                title = legible(Path(row["file"]).name)
                if run:
                    title = errors_in_words(scores[run], run_boxes["kind"], separator)
                axes.set_title(title, fontsize=SMALL, fontweight="normal", pad=2)
            panels[0].annotate(_row_title(row), (0, 0.5), xytext=(-4, 0), **ROW_TITLE)
        for axes, name in zip(grid[0], ["Objects", *runs], strict=True):
            title = textwrap.fill(name, TITLES_LENGTH // across)
            axes.annotate(title, (0.5, 1), xytext=(0, 72 * title_height - 2), **COLUMN_TITLE)
        figure.legend(handles=kind_handles(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _selected_rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return a line for each selected image, in the order of their ranks."""
    images = frame[frame["chosen"] != ""].drop_duplicates("image")
    return images.sort_values("rank").to_dict("records")


def _height(image: np.ndarray, across: int) -> float:
    """Return the height of an image in inches."""
    return min((WIDTH - 0.3) / across * image.shape[0] / image.shape[1], IMAGE_HEIGHT)


def _row_title(row: Mapping[Any, Any]) -> str:
    title = TITLES[row["chosen"]]
    return title if np.isnan(row["gain"]) else f"{title}\n({row['gain']:+.2f})".replace("-", MINUS)
