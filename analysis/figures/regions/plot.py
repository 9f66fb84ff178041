"""Picture of the regions that methods use: maps over the image, boxes, and crops."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from analysis.figures.regions.compute import RegionImage
from analysis.plotting.overlay import (
    DETECTION_COLOR,
    TRUTH_COLOR,
    draw_boxes,
    draw_map,
    show_image,
)
from analysis.plotting.style import QUIET, STYLE, WIDTH
from kd.methods.base import Focus

MOST_COLUMNS = 5
"""Most panels in a row."""
FULL_COLUMNS = 4
"""Panels in a row from which the picture has its full width."""
LONGEST_PANEL = 1.5
"""Largest height of a panel in inches."""
HEADING, PANEL_TITLE, KEY = 0.3, 0.25, 0.3
"""Heights in inches of a run's name, a panel's title, and the key of colors."""
MOST_CROPS, MOST_BOXES = 16, 60
"""Crops and boxes of a panel, the first ones."""

Draw = Callable[[Axes], AxesImage | None]
Panel = tuple[str, Draw]


def plot_figures(images: Mapping[str, RegionImage]) -> dict[str, Figure]:
    """Return the picture of the regions of each run, by name."""
    return {"regions": plot(images)}


def plot(images: Mapping[str, RegionImage]) -> Figure:
    """Return a block of panels for each run: the image with its objects, then each region."""
    blocks = {run: _panels(image) for run, image in images.items()}
    across = _across(max(len(panels) for panels in blocks.values()))
    heights = [
        HEADING + _down(panels, across) * (_panel_height(images[run], across) + PANEL_TITLE)
        for run, panels in blocks.items()
    ]
    with rc_context(STYLE):
        width = min(max(across / FULL_COLUMNS, 0.6), 1) * WIDTH
        figure = Figure(figsize=(width, sum(heights) + KEY), layout="constrained")
        ratios = [KEY, *heights]
        key, *parts = figure.subfigures(len(ratios), 1, squeeze=False, height_ratios=ratios).flat
        _draw_key(key, images)
        for part, (run, panels) in zip(parts, blocks.items(), strict=True):
            part.suptitle(run, fontsize=9, fontweight="bold")
            _draw_block(part, images[run], panels, across)
    return figure


def _across(panels: int) -> int:
    """Return the panels in a row: all of the longest block, or, if it wraps, about equal rows."""
    if panels <= MOST_COLUMNS:
        return panels
    return max(FULL_COLUMNS, math.ceil(panels / math.ceil(panels / MOST_COLUMNS)))


def _down(panels: list[Panel], across: int) -> int:
    return -(-len(panels) // across)


def _panel_height(image: RegionImage, across: int) -> float:
    height, width = image.pixels.shape[:2]
    return min(WIDTH / max(across, FULL_COLUMNS) * height / width, LONGEST_PANEL)


def _draw_block(part: SubFigure, image: RegionImage, panels: list[Panel], across: int) -> None:
    """Draw the panels of one run, and the color scale of each term's maps."""
    grid = part.subplots(_down(panels, across), across, squeeze=False)
    scales: dict[str, tuple[AxesImage, list[Axes]]] = {}
    for axes in grid.flat:
        axes.axis("off")
    for axes, (title, draw) in zip(grid.flat, panels, strict=False):
        show_image(axes, image.pixels, gray=title != "image")
        draw_boxes(axes, image.boxes, TRUTH_COLOR)
        drawn_map = draw(axes)
        axes.set_title(title, fontsize=7, fontweight="normal", pad=3)
        if drawn_map is not None:
            label = str(drawn_map.get_label())
            scales.setdefault(label, (drawn_map, []))[1].append(axes)
    for label, (drawn_map, _) in scales.items():
        scale = part.colorbar(drawn_map, ax=list(grid.flat), fraction=0.03, pad=0.02)
        scale.set_label(label, fontsize=7)
        scale.ax.tick_params(labelsize=6)
        scale.outline.set_visible(False)  # type: ignore[operator]


def _panels(image: RegionImage) -> list[Panel]:
    """Return title and drawing function of each panel of a run."""
    panels: list[Panel] = [("image", lambda axes: None)]
    for term, focus in image.focus.items():
        prefix = f"{term}: " if len(image.focus) > 1 else ""
        label = prefix + (focus.quantity or "value")
        limits = _limits(focus)
        for name, values in focus.maps.items():
            panels.append((prefix + name, _map_panel(values.float().cpu().numpy(), limits, label)))
        for name, boxes in focus.boxes.items():
            title = f"{prefix}{name} ({_count(len(boxes), MOST_BOXES)})"
            panels.append((title, _box_panel(boxes.cpu().numpy())))
        for name, crops in focus.crops.items():
            title = f"{prefix}crops of {name} ({_count(len(crops), MOST_CROPS)})"
            panels.append((title, _crop_panel(crops.cpu().numpy(), image)))
    return panels


def _count(number: int, most: int) -> str:
    return str(number) if number <= most else f"{most} of {number}"


def _limits(focus: Focus) -> tuple[float, float]:
    """Return the ends of the color scale that all maps of a term share."""
    low = min((float(values.min()) for values in focus.maps.values()), default=0)
    high = max((float(values.max()) for values in focus.maps.values()), default=0)
    return min(low, 0), high if high > 0 else 1


def _map_panel(values: np.ndarray, limits: tuple[float, float], label: str) -> Draw:
    """Return a function that draws a map (h, w) over the padded image."""

    def draw(axes: Axes) -> AxesImage:
        drawn_map = draw_map(axes, values, *limits)
        drawn_map.set_label(label)
        if not values.any():
            axes.text(
                0.5, 0.04, "no cell", transform=axes.transAxes,
                ha="center", va="bottom", size=7, color=QUIET,
            )  # fmt: skip
        return drawn_map

    return draw


def _box_panel(boxes: np.ndarray) -> Draw:
    def draw(axes: Axes) -> None:
        draw_boxes(axes, boxes[:MOST_BOXES], DETECTION_COLOR)

    return draw


def _crop_panel(crops: np.ndarray, image: RegionImage) -> Draw:
    """Return a function that draws a mosaic of crops (n, 3, s, s) in place of the image."""

    def draw(axes: Axes) -> None:
        axes.clear()
        axes.axis("off")
        if len(crops):
            axes.imshow(_mosaic(crops[:MOST_CROPS], image), interpolation="none")

    return draw


def _mosaic(crops: np.ndarray, image: RegionImage) -> np.ndarray:
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


def _draw_key(part: SubFigure, images: Mapping[str, RegionImage]) -> None:
    """Draw the key of the colors of boxes."""
    entries: list[tuple[str, Any]] = [("object (ground truth)", TRUTH_COLOR)]
    if any(focus.boxes for image in images.values() for focus in image.focus.values()):
        entries.append(("box that the method uses", DETECTION_COLOR))
    handles = [Line2D([], [], color=color, label=label) for label, color in entries]
    part.legend(handles=handles, loc="center", ncols=2, frameon=False)
