"""Pictures of the prediction gap: similarity of both gaps by level, and maps of both."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis.figures.prediction_gap.gaps import Gap, GapImage, similarity
from analysis.plotting.dots import draw_points, draw_reference, reference_handle, run_panels
from analysis.plotting.overlay import TRUTH_COLOR, draw_boxes, draw_map, show_image
from analysis.plotting.panels import message_figure
from analysis.plotting.style import STYLE, WIDTH, Look

TITLES = {
    "pearson": "Pearson's r",
    "spearman": "Spearman's rho",
    "share": "share of $F_{dif}$ in the tenth of cells with the highest $P_{dif}$",
}
"""Axis label of each measure."""
MOST_STUDENTS = 4
"""Students with maps in the picture, the first ones."""
LABEL_LENGTH = 16
"""Characters in a line of a run's name."""
LINE_HEIGHT = 0.18
"""Height of a run's row, in inches."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame],
    looks: Mapping[str, Look],
    examples: Sequence[GapImage],
    level: int,
) -> dict[str, Figure]:
    """Return the pictures of the tables of ``compute_tables``, by name."""
    return {
        "prediction_gap": plot(tables["prediction_gap"], looks),
        "prediction_gap-maps": plot_maps(examples, list(looks), level),
    }


def plot(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a panel for each measure and each level on which it is defined, a row for each run.

    ``frame`` is the table of ``summary``. All panels of a measure have one scale, from zero. The
    dotted line is the first run's value.
    """
    levels = frame[frame["pearson"].notna()][["level", "stride"]].drop_duplicates().to_numpy()
    if not len(levels):
        return message_figure("one of the maps is constant on every level")
    with rc_context(STYLE):
        run_names = list(frame["run"].unique())
        figure, grid = run_panels(run_names, len(TITLES), len(levels), LINE_HEIGHT)
        for row, (measure, title) in zip(grid, TITLES.items(), strict=True):
            limits = _limits(frame, measure)
            for axes, (level, _) in zip(row, levels, strict=True):
                lines = frame[frame["level"] == level]
                draw_points(axes, lines, measure, looks)
                draw_reference(axes, lines[measure].iloc[0])
                axes.set_xlim(limits)
            row[len(row) // 2].set_xlabel(title, parse_math=True)
        handles = [reference_handle(run_names[0])]
        figure.legend(handles=handles, loc="outside upper right", frameon=False)
        for axes, (level, stride) in zip(grid[0], levels, strict=True):
            axes.set_title(f"level {level}\n(stride {stride})", fontsize=8)
    return figure


def _limits(frame: pd.DataFrame, measure: str) -> tuple[float, float]:
    """Return the ends of a measure's axis, with zero and all intervals."""
    values = frame[[measure, f"{measure}_low", f"{measure}_high"]].to_numpy()
    low, high = min(np.nanmin(values), 0), max(np.nanmax(values), 0)
    return (1.08 * low, 1.08 * high) if high > low else (-1, 1)


def plot_maps(images: Sequence[GapImage], run_names: Sequence[str], level: int) -> Figure:
    """Return two rows for each image: P_dif of the first runs at a level, and below it F_dif.

    All maps of a quantity have one color scale, from zero. Their similarity is below them.
    """
    run_names = run_names[:MOST_STUDENTS]
    across = len(run_names) + 1
    gaps = [student[level] for image in images for student in image.students[:MOST_STUDENTS]]
    prediction_limit = max(gap.prediction.max() for gap in gaps)
    feature_limit = max(gap.feature.max() for gap in gaps)
    with rc_context(STYLE):
        width = WIDTH * min(across, 4) / 4
        aspects = [image.pixels.shape[0] / image.pixels.shape[1] for image in images]
        heights = [aspect * (width / across - 0.1) + 0.15 for aspect in aspects for _ in range(2)]
        figure = Figure(figsize=(width, sum(heights) + 0.2 * len(images)), layout="constrained")
        grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
        for axes in grid.flat:
            axes.axis("off")
        for image, upper, lower in zip(images, grid[::2], grid[1::2], strict=True):
            show_image(upper[0], image.pixels)
            draw_boxes(upper[0], image.boxes, TRUTH_COLOR)
            students = zip(run_names, image.students, strict=False)
            for column, (run, levels) in enumerate(students, start=1):
                gap = levels[level]
                prediction = _draw_gap(upper[column], image, gap, gap.prediction, prediction_limit)
                feature = _draw_gap(lower[column], image, gap, gap.feature, feature_limit)
                upper[column].set_title(textwrap.fill(run, LABEL_LENGTH), fontsize=8)
                _draw_similarity(lower[column], gap)
            _draw_symbols(upper[1], lower[1])
        _draw_scales(grid[1, 0], {"$P_{dif}$": prediction, "$F_{dif}$": feature})
    return figure


def _draw_scales(axes: Axes, drawn_maps: Mapping[str, AxesImage]) -> None:
    """Draw the color scale of each quantity in the place below the first image."""
    for place, (symbol, drawn_map) in enumerate(drawn_maps.items()):
        bar = axes.inset_axes((0.02, 0.72 - 0.45 * place, 0.9, 0.07))
        scale = axes.figure.colorbar(drawn_map, cax=bar, orientation="horizontal")
        bar.set_title(symbol, fontsize=8, parse_math=True)
        bar.tick_params(labelsize=6)
        bar.locator_params(axis="x", nbins=3)
        scale.outline.set_visible(False)  # type: ignore[operator]


def _draw_symbols(upper: Axes, lower: Axes) -> None:
    for axes, symbol in ((upper, "$P_{dif}$"), (lower, "$F_{dif}$")):
        axes.annotate(
            symbol, (-0.04, 0.5), xycoords="axes fraction",
            rotation=90, ha="right", va="center", annotation_clip=False, parse_math=True,
        )  # fmt: skip


def _draw_gap(axes: Axes, image: GapImage, gap: Gap, values: np.ndarray, limit: float) -> AxesImage:
    show_image(axes, image.pixels, gray=True)
    drawn_map = draw_map(axes, values, 0, limit if limit > 0 else 1, gap.stride)
    draw_boxes(axes, image.boxes, TRUTH_COLOR)
    return drawn_map


def _draw_similarity(axes: Axes, gap: Gap) -> None:
    pearson, spearman, _ = similarity(gap)
    text = "undefined" if np.isnan(pearson) else f"r {pearson:.2f}, rho {spearman:.2f}"
    axes.text(0.5, -0.03, text, transform=axes.transAxes, ha="center", va="top", size=7)
