"""Picture of the regions that methods use: maps over the image, boxes, and crops."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.focus.compute import FocusImage, compute_focus
from analysis.plotting.overlay import (
    DETECTION_COLOR,
    TRUTH_COLOR,
    draw_boxes,
    draw_map,
    draw_scale,
    show_image,
)
from analysis.plotting.panels import panel_grid
from analysis.plotting.style import STYLE, save
from kd.common.errors import UserError
from kd.config.compose import WEIGHTS
from kd.config.plan import Plan
from kd.config.run import Run

logger = logging.getLogger(__name__)

COLUMNS = 4
"""Panels in a row."""
PANEL_WIDTH = 2.1
"""Width of a panel in inches."""
DOTS_PER_INCH = 110
"""Resolution, lower than that of other figures, because the pictures are on a page of docs."""
MOST_CROPS, MOST_BOXES = 16, 60
"""Crops and boxes of a panel, the first ones."""

Draw = Callable[[Axes], None]


def plot_study(plan: Plan, folder: Path, image: int) -> None:
    """Write ``<method>.png`` for the first finished run of each method of a plan."""
    runs: dict[str, Run] = {}
    for run in plan.runs.values():
        if run.method and (run.directory / WEIGHTS).exists():
            runs.setdefault(run.method, run)
    if not runs:
        raise UserError("no distilled run of the study has been trained yet")
    for method, run in runs.items():
        figure = plot(compute_focus(run.directory, image), f"{method} on {run.model}")
        for path in save(figure, folder / method, ("png",), DOTS_PER_INCH):
            logger.info("%s", path)


def plot(image: FocusImage, title: str) -> Figure:
    """Return a panel for the image with its objects, and one for each region of its methods."""
    panels: list[tuple[str, Draw]] = [("ground truth", lambda axes: None)]
    for term, focus in image.focus.items():
        prefix = f"{term}: " if len(image.focus) > 1 else ""
        for name, values in focus.maps.items():
            panels.append((prefix + name, _map_panel(values.cpu().numpy())))
        for name, values in focus.boxes.items():
            panels.append((prefix + name, _box_panel(values.cpu().numpy())))
        for name, values in focus.crops.items():
            panels.append((prefix + name, _crop_panel(values.cpu().numpy(), image)))
    height = 0.8 * PANEL_WIDTH * image.pixels.shape[0] / image.pixels.shape[1] + 0.3
    width = PANEL_WIDTH * min(COLUMNS, len(panels))
    with rc_context(STYLE):
        figure, grid = panel_grid(len(panels), COLUMNS, height, 0.4, width)
        for axes, (name, draw) in zip(grid, panels, strict=True):
            axes.axis("off")
            show_image(axes, image.pixels)
            draw_boxes(axes, image.boxes, TRUTH_COLOR)
            draw(axes)
            axes.set_title(name, fontsize=8, fontweight="normal")
        figure.suptitle(title, fontsize=9, fontweight="bold")
    return figure


def _map_panel(values: np.ndarray) -> Draw:
    """Return a function that draws a map (h, w) over the padded image, with its scale."""

    def draw(axes: Axes) -> None:
        drawn_map = draw_map(axes, values, low=min(values.min(), 0), high=values.max() or 1)
        draw_scale(drawn_map, axes)

    return draw


def _box_panel(boxes: np.ndarray) -> Draw:
    def draw(axes: Axes) -> None:
        draw_boxes(axes, boxes[:MOST_BOXES], DETECTION_COLOR)

    return draw


def _crop_panel(crops: np.ndarray, image: FocusImage) -> Draw:
    """Return a function that draws a mosaic of crops (n, 3, s, s) in place of the image."""

    def draw(axes: Axes) -> None:
        axes.clear()
        axes.axis("off")
        if len(crops):
            axes.imshow(_mosaic(crops[:MOST_CROPS], image))

    return draw


def _mosaic(crops: np.ndarray, image: FocusImage) -> np.ndarray:
    """Return normalized crops (n, 3, s, s) as one image (H, W, 3), row by row."""
    pixels = crops * image.std[:, None, None] + image.mean[:, None, None]
    pictures = (pixels / 255).clip(0, 1).transpose(0, 2, 3, 1)
    across = math.ceil(math.sqrt(len(pictures)))
    down = math.ceil(len(pictures) / across)
    side = pictures.shape[1] + 2
    mosaic = np.ones((down * side, across * side, 3))
    for index, picture in enumerate(pictures):
        top, left = index // across * side, index % across * side
        mosaic[top : top + side - 2, left : left + side - 2] = picture
    return mosaic
