"""Picture of maps of the prediction gap and of the feature gap, with marks where they differ."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from analysis.figures.map_gaps import Gap
from analysis.figures.prediction_gap.compute import CORNERS
from analysis.figures.prediction_gap.gaps import GapImage, similarity
from analysis.plotting.overlay import TRUTH_COLOR, draw_boxes, draw_map, show_image
from analysis.plotting.style import STYLE, WIDTH

SYMBOLS = {"prediction": "$P_{dif}$", "feature": "$F_{dif}$"}
"""Symbol of each quantity."""
MOST_STUDENTS = 4
"""Students with maps in the picture, the first ones."""
CUT = 99
"""Percentile of the cells at which a color scale ends."""
MARK_COLOR = "#0072B2"
"""Color of marks, of Okabe and Ito."""
LABEL_LENGTH = 16
"""Characters in a line of a run's name."""
KEY = 0.25
"""Height of the key in inches."""


class ColorScale(NamedTuple):
    """Color scale from zero that all maps of a quantity share."""

    end: float
    """End of the scale, the 99th percentile of the cells; higher values have its color."""
    highest: float
    """Largest value of the cells."""


def color_scales(images: Sequence[GapImage], students: int, level: int) -> dict[str, ColorScale]:
    """Return the color scale of ``prediction`` and ``feature`` of the first students' maps."""
    gaps = [gaps[level] for image in images for gaps in image.students[:students]]
    scales = {}
    for quantity in SYMBOLS:
        values = np.concatenate([getattr(gap, quantity).ravel() for gap in gaps])
        end, highest = float(np.percentile(values, CUT)), float(values.max())
        scales[quantity] = ColorScale(end or highest or 1.0, highest)
    return scales


def plot_maps(
    images: Sequence[GapImage],
    run_names: Sequence[str],
    level: int,
    marks: pd.DataFrame,
) -> Figure:
    """Return two rows for each image: P_dif of the first runs at a level, and below it F_dif.

    All maps of a quantity have one color scale, from zero. Their similarity is below them.
    ``marks`` is the table of marks: cells whose features differ although predictions agree.
    """
    run_names = run_names[:MOST_STUDENTS]
    across = len(run_names) + 1
    scales = color_scales(images, len(run_names), level)
    with rc_context(STYLE):
        width = WIDTH * min(across, 4) / 4
        aspects = [image.pixels.shape[0] / image.pixels.shape[1] for image in images]
        heights = [aspect * (width / across - 0.1) + 0.15 for aspect in aspects for _ in range(2)]
        height = sum(heights) + 0.2 * len(images) + KEY
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
        for axes in grid.flat:
            axes.axis("off")
        blocks = zip(images, grid[::2], grid[1::2], strict=True)
        for number, (image, upper, lower) in enumerate(blocks):
            show_image(upper[0], image.pixels)
            draw_boxes(upper[0], image.boxes, TRUTH_COLOR)
            students = zip(run_names, image.students, strict=False)
            for column, (run, levels) in enumerate(students, start=1):
                gap = levels[level]
                prediction = _draw_gap(upper[column], image, gap, "prediction", scales)
                feature = _draw_gap(lower[column], image, gap, "feature", scales)
                upper[column].set_title(textwrap.fill(run, LABEL_LENGTH), fontsize=8)
                _draw_similarity(lower[column], gap)
                selected = marks[(marks["run"] == run) & (marks["image"] == number)]
                _draw_marks((upper[column], lower[column]), selected, gap.stride)
            _draw_symbols(upper[1], lower[1])
        _draw_scales(grid[1, 0], {"prediction": prediction, "feature": feature}, scales)
        _draw_key(figure)
    return figure


def _draw_marks(panels: Sequence[Axes], marks: pd.DataFrame, stride: int) -> None:
    """Draw an ellipse around each mark, in both maps of a run."""
    for box in marks[CORNERS].to_numpy(float):
        center, size = (box[:2] + box[2:]) / 2 - 0.5, box[2:] - box[:2] + stride
        for axes in panels:
            axes.add_patch(
                Ellipse(tuple(center), *size, fill=False, edgecolor=MARK_COLOR, linewidth=1.2)
            )


def _draw_key(figure: Figure) -> None:
    ring: dict[str, Any] = {"marker": "o", "markerfacecolor": "none", "linestyle": "none"}
    handles = [
        Line2D([], [], color=TRUTH_COLOR, label="object"),
        Line2D([], [], color=MARK_COLOR, label="predictions agree, features differ", **ring),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)


def _draw_scales(
    axes: Axes, drawn_maps: Mapping[str, AxesImage], scales: Mapping[str, ColorScale]
) -> None:
    """Draw the color scale of each quantity in the place below the first image."""
    for place, (quantity, drawn_map) in enumerate(drawn_maps.items()):
        bar = axes.inset_axes((0.02, 0.72 - 0.45 * place, 0.9, 0.07))
        end, highest = scales[quantity]
        extend = "max" if highest > end else "neither"
        scale = axes.figure.colorbar(drawn_map, cax=bar, orientation="horizontal", extend=extend)
        bar.set_title(SYMBOLS[quantity], fontsize=8, parse_math=True)
        bar.tick_params(labelsize=6)
        bar.locator_params(axis="x", nbins=3)
        bar.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        scale.outline.set_visible(False)  # type: ignore[operator]


def _draw_symbols(upper: Axes, lower: Axes) -> None:
    for axes, symbol in zip((upper, lower), SYMBOLS.values(), strict=True):
        axes.annotate(
            symbol, (-0.04, 0.5), xycoords="axes fraction",
            rotation=90, ha="right", va="center", annotation_clip=False, parse_math=True,
        )  # fmt: skip


def _draw_gap(
    axes: Axes,
    image: GapImage,
    gap: Gap,
    quantity: str,
    scales: Mapping[str, ColorScale],
) -> AxesImage:
    show_image(axes, image.pixels, gray=True)
    drawn_map = draw_map(axes, getattr(gap, quantity), 0, scales[quantity].end, gap.stride)
    draw_boxes(axes, image.boxes, TRUTH_COLOR)
    return drawn_map


def _draw_similarity(axes: Axes, gap: Gap) -> None:
    pearson, spearman, _ = similarity(gap)
    text = "undefined" if np.isnan(pearson) else f"r {pearson:.2f}, rho {spearman:.2f}"
    axes.text(0.5, -0.03, text, transform=axes.transAxes, ha="center", va="top", size=7)
