"""Pictures of gradient maps: maps over images, and ratios of their means."""

import math
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.figures.gradient_maps.compute import AnnotatedImage
from analysis.plotting.overlay import TRUTH_COLOR, draw_boxes, draw_map, draw_scale, show_image
from analysis.plotting.style import QUIET, STYLE, WIDTH, Look

DECADES = 3
"""Powers of ten that the colors span below the largest gradient."""
PAGE_HEIGHT, MARGIN, CHARACTER_WIDTH = 9.5, 0.3, 0.055
"""Inches of a page, around the panels, and of a letter of a name."""
SCALE_END = 0.2
"""Smallest distance of a number from an end of the color scale, in decades."""
LARGEST_RATIO = 30.0
"""Largest ratio on the axis, whose inverse is the smallest."""
SUMS = ("total", "detection", "distillation")
ROW_HEIGHT = 0.16
"""Height of a term's row, in inches."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame],
    looks: Mapping[str, Look],
    images: Mapping[Any, AnnotatedImage],
) -> dict[str, Figure]:
    """Return the pictures of the tables of ``compute_tables``, by name."""
    return {
        "gradient_maps": plot_maps(tables["gradient_maps"], images),
        "gradient_maps-means": plot_means(tables["gradient_maps-means"], looks),
    }


def plot_maps(cells: pd.DataFrame, images: Mapping[Any, AnnotatedImage]) -> Figure:
    """Return a row for each run and image of ``maps``, a column for each level.

    A column has one logarithmic color scale; all values more than ``DECADES`` below its largest
    value have one color.
    """
    rows = list(cells.groupby(["run", "image"], sort=False))
    levels = _levels(cells)
    aspect = max(image.pixels.shape[0] / image.pixels.shape[1] for image in images.values())
    side = min((WIDTH - MARGIN) / len(levels), (PAGE_HEIGHT - 2 * MARGIN) / (len(rows) * aspect))
    size = side * len(levels) + MARGIN, side * aspect * len(rows) + 2 * MARGIN
    with rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
        figure = Figure(figsize=size, layout=layout)
        grid = figure.subplots(len(rows), len(levels), squeeze=False)
        for column, (level, stride) in zip(grid.T, levels, strict=True):
            high = cells.loc[cells["level"] == level, "total"].max()
            for axes, ((_, image), lines) in zip(column, rows, strict=True):
                drawn_map = _draw_panel(axes, lines[lines["level"] == level], images[image], high)
            column[0].set_title(_level_title(level, stride), fontweight="normal", fontsize=7)
            _draw_log_scale(drawn_map, list(column), high)
        for axes, ((run, image), _) in zip(grid[:, 0], rows, strict=True):
            name = textwrap.fill(str(run), max(int(side * aspect / CHARACTER_WIDTH), 8))
            _draw_row_title(axes, f"{name}\nimage {image}" if len(images) > 1 else name)
        figure.supxlabel("Norm of the total gradient", fontsize=8)
    return figure


def _levels(frame: pd.DataFrame) -> list[tuple[int, int]]:
    """Return each level of a table and its stride."""
    return sorted(set(zip(frame["level"], frame["stride"], strict=True)))


def _level_title(level: int, stride: int) -> str:
    return f"level {level}\nstride {stride}"


def _draw_panel(axes: Axes, cells: pd.DataFrame, image: AnnotatedImage, high: float) -> AxesImage:
    show_image(axes, image.pixels, gray=True)
    draw_boxes(axes, image.boxes, TRUTH_COLOR)
    values = cells.pivot(index="y", columns="x", values="total").to_numpy()
    top = high or 1.0
    return draw_map(axes, values, top / 10**DECADES, top, stride=cells["cell"].iloc[0], log=True)


def _draw_log_scale(drawn_map: AxesImage, panels: list[Axes], high: float) -> None:
    """Draw the color scale of maps up to ``high``, with ticks at powers of ten."""
    scale = draw_scale(drawn_map, panels, below=True)
    scale.minorticks_off()
    if not high:
        scale.set_ticks([])
        scale.set_label("no gradient", fontsize=6)
        return
    top = math.log10(high)
    powers = range(math.ceil(top - DECADES + SCALE_END), math.floor(top - SCALE_END) + 1)
    scale.set_ticks([10.0**power for power in powers])


def _draw_row_title(axes: Axes, title: str) -> None:
    """Draw a vertical title left of a panel."""
    axes.text(
        -0.06, 0.5, title, transform=axes.transAxes,
        rotation=90, ha="right", va="center", multialignment="center", fontsize=7,
    )  # fmt: skip


def plot_means(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a panel for each level of ``means``, with a row for each term of each run.

    A marker is at the ratio, and the number beside it is the mean on objects. Undefined ratios and
    means are left out, and a ratio beyond ``LARGEST_RATIO`` is at the edge. ``distillation`` is
    left out if it has only one term.
    """
    levels = _levels(frame)
    places = _row_places(frame)
    end = max(places.values()) + 0.6
    with rc_context(STYLE):
        size = WIDTH, ROW_HEIGHT * (end + 0.6) + 0.8
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(levels), squeeze=False, sharex=True, sharey=True)[0]
        positive = frame["ratio"][frame["ratio"] > 0]
        reach = min(max([2.0, *positive, *(1 / positive)]) * 1.3, LARGEST_RATIO)
        panels[0].set(xscale="log", xlim=(1 / reach, reach), ylim=(end, -0.6))
        step = 10 if reach > 10 else 2
        panels[0].set_xticks([1 / step, 1, step], [f"{1 / step:g}", "1", f"{step}"])
        _set_row_labels(panels[0], places)
        for axes, (level, stride) in zip(panels, levels, strict=True):
            axes.set_title(_level_title(level, stride), fontweight="normal", fontsize=7)
            axes.axvline(1, color=QUIET, linewidth=0.8, zorder=1)
            axes.tick_params(axis="y", length=0)
            axes.minorticks_off()
            rows = frame[frame["level"] == level].set_index(["run", "term"])
            _draw_ratios(axes, rows, places, looks)
        figure.supxlabel(
            "Mean gradient norm on objects / on background (number: on objects)", fontsize=8
        )
    return figure


def _row_places(frame: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return the row of each term by run and term; the name of a run has a row without a term."""
    places, place = {}, 0.0
    for run, rows in frame.groupby("run", sort=False):
        terms = list(rows["term"].unique())
        several = sum(term not in SUMS for term in terms) > 1
        for term in ["", *(term for term in terms if several or term != "distillation")]:
            places[str(run), term] = place
            place += 1
        place += 0.3
    return places


def _set_row_labels(axes: Axes, places: Mapping[tuple[str, str], float]) -> None:
    names = [term.removeprefix("loss_").replace("_", " ") or run for run, term in places]
    axes.set_yticks(list(places.values()), names)
    for text, (_, term) in zip(axes.get_yticklabels(), places, strict=True):
        text.set_fontweight("normal" if term else "bold")
        text.set_fontsize(7)


def _draw_ratios(
    axes: Axes,
    rows: pd.DataFrame,
    places: Mapping[tuple[str, str], float],
    looks: Mapping[str, Look],
) -> None:
    by_row: dict[Any, Any] = rows[["ratio", "objects"]].to_dict("index")
    for (run, term), place in places.items():
        row = by_row.get((run, term), {})
        mean, ratio = (row.get(column, math.nan) for column in ("objects", "ratio"))
        clipped = np.clip(ratio, *axes.get_xlim()) if ratio else math.nan
        axes.plot([clipped], [place], markersize=4, clip_on=False, **looks[run].point)
        axes.annotate(
            "" if math.isnan(mean) else _short(mean),
            (1.02, place),
            xycoords=axes.get_yaxis_transform(),
            fontsize=6,
            color=QUIET,
            va="center",
        )


def _short(value: float) -> str:
    """Return a number with two digits and an exponent, without padding."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}" if value else "0"
