"""Picture of the overview: teacher, student and their difference; features to detections."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from analysis.figures.overview.compute import OverviewImage, in_input
from analysis.plotting.detections import (
    CORNERS,
    draw_detections,
    errors_in_words,
    kind_handles,
    selected_boxes,
)
from analysis.plotting.overlay import (
    DETECTION_COLOR,
    PRIOR_COLOR,
    TRUTH_COLOR,
    draw_boxes,
    draw_map,
    show_image,
)
from analysis.plotting.panels import message_figure
from analysis.plotting.style import QUIET, STYLE, WIDTH
from kd.common.lettering import legible

PANEL = 1.75
"""Width of a panel in inches."""
HIGHEST = 1.75
"""Largest height of a panel in inches."""
TITLE, BAR = 0.25, 0.4
"""Heights in inches of the titles of the columns, and of a color scale or key."""
DETECTED: dict[str, tuple[str, Any, str]] = {
    "both": (TRUTH_COLOR, "-", "both"),
    "teacher": (PRIOR_COLOR, "--", "teacher only"),
    "student": (DETECTION_COLOR, "--", "student only"),
    "none": (QUIET, ":", "neither"),
}
"""Color, dash and legend entry of an object, by the detectors that detect it."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame], image: OverviewImage | None
) -> dict[str, Figure]:
    """Return the picture of the tables of ``compute_tables``, by name."""
    if image is None:
        return {"overview": message_figure("no image has an object")}
    frame = tables["overview"]
    return {"overview": plot(frame[frame["chosen"]], tables["overview-boxes"], image)}


def plot(frame: pd.DataFrame, boxes: pd.DataFrame, image: OverviewImage) -> Figure:
    """Return three rows, teacher, student and difference, of features, predictions and detections.

    ``frame`` has the counts of both runs in the image, and ``boxes`` its boxes.
    """
    boxes = in_input(boxes, image.scale)
    runs = [str(run) for run in frame["run"]]
    height = min(PANEL * image.pixels.shape[0] / image.pixels.shape[1], HIGHEST)
    heights = [height + TITLE, height + TITLE, BAR, height + TITLE, BAR]
    with rc_context(STYLE):
        engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0)
        figure = Figure(figsize=(min(3 * PANEL + 0.3, WIDTH), sum(heights)), layout=engine)
        grid = figure.subplots(5, 3, squeeze=False, height_ratios=heights)
        for axes in grid[[2, 4]].flat:
            axes.axis("off")
        gap, objects = image.gap, boxes.loc[boxes["kind"] == "object", list(CORNERS)].to_numpy()
        features = (*image.features, gap.feature)
        _draw_column(grid[:, 0], image, features, objects, ("root mean square", "$F_{dif}$"))
        predictions = (*image.predictions, gap.prediction)
        labels = ("highest class probability", "$P_{dif}$")
        _draw_column(grid[:, 1], image, predictions, objects, labels)
        for axes, line in zip(grid[:2, 2], frame.to_dict("records"), strict=True):
            show_image(axes, image.pixels)
            run_boxes = boxes[boxes["run"] == line["run"]]
            draw_detections(axes, selected_boxes(run_boxes), image.pixels.shape[:2], height)
            title = errors_in_words(line["f1"], run_boxes["kind"])
            axes.set_title(title, fontsize=6.5, fontweight="normal", pad=2)
        _draw_detected(grid[3, 2], image, boxes)
        _draw_keys(grid[2, 2], grid[4, 2])
        titles = (f"Features (stride {image.gap.stride})", "Dense predictions", "Detections")
        for axes, title in zip(grid[0], titles, strict=True):
            axes.annotate(
                title, (0.5, 1), xytext=(0, 12), xycoords="axes fraction",
                textcoords="offset points", ha="center", fontsize=8, fontweight="bold",
            )  # fmt: skip
        for axes, name in zip(grid[[0, 1, 3], 0], (*runs, "Difference"), strict=True):
            axes.annotate(
                legible(name, 24), (0, 0.5), xytext=(-4, 0), xycoords="axes fraction",
                textcoords="offset points", rotation=90, ha="right", va="center", fontsize=8,
                fontweight="bold",
            )  # fmt: skip
    return figure


def _draw_column(
    column: np.ndarray,
    image: OverviewImage,
    maps: Sequence[np.ndarray],
    objects: np.ndarray,
    labels: Sequence[str],
) -> None:
    """Draw maps of teacher, student and difference, and below them their scales, with ``labels``.

    ``objects`` are boxes (G, 4), xyxy in pixels of the network's input.
    """
    ends = [max(float(values.max()) for values in maps[:2])] * 2 + [float(maps[2].max())]
    drawn_maps = []
    for axes, values, end in zip(column[[0, 1, 3]], maps, ends, strict=True):
        show_image(axes, image.pixels, gray=True)
        limit = end if end > 0 else 1
        drawn_maps.append(draw_map(axes, values, 0, limit, image.gap.stride))
        draw_boxes(axes, objects, TRUTH_COLOR)
    for axes, drawn_map, label in zip(column[[2, 4]], drawn_maps[1:], labels, strict=True):
        _draw_scale(axes, drawn_map, label)


def _draw_scale(axes: Axes, drawn_map: AxesImage, label: str) -> None:
    bar = axes.inset_axes((0.05, 0.5, 0.9, 0.2))
    scale = axes.figure.colorbar(drawn_map, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=6)
    bar.locator_params(axis="x", nbins=3)
    bar.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.set_title(label, fontsize=7, fontweight="normal", pad=2, parse_math=True)
    scale.outline.set_visible(False)  # type: ignore[operator]


def _draw_detected(axes: Axes, image: OverviewImage, boxes: pd.DataFrame) -> None:
    """Draw the objects of the image, in the color and dash of the detectors that detect them."""
    show_image(axes, image.pixels)
    objects = boxes[boxes["kind"] == "object"]
    for line in objects.to_dict("records"):
        color, dash, _ = DETECTED[line["detected"]]
        corners = np.array([[line[corner] for corner in CORNERS]])
        draw_boxes(axes, corners, color, dash, cased=True)
    if objects.empty:
        axes.text(0.5, 0.5, "no object", transform=axes.transAxes, ha="center", va="center")


def _draw_keys(kinds: Axes, detected: Axes) -> None:
    """Draw the keys of detections, and of the objects that one run detects."""
    place: dict[str, Any] = {"loc": "center", "frameon": False, "fontsize": 6.5}
    kinds.legend(handles=kind_handles(), ncols=1, labelspacing=0.2, **place)
    handles = [
        Line2D([], [], color=color, linestyle=dash, label=label)
        for color, dash, label in DETECTED.values()
    ]
    detected.legend(
        handles=handles,
        ncols=2,
        title="Object detected by",
        title_fontsize=6.5,
        labelspacing=0.2,
        **place,
    )
