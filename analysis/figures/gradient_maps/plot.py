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
from analysis.runs.titles import loss_name

DECADES = 3
"""Powers of ten that the colors span below the largest gradient."""
PAGE_HEIGHT, MARGIN, CHARACTER_WIDTH = 7.5, 0.3, 0.055
"""Inches of the panels of a page, around the panels, and of a letter of a name."""
SCALE_HEIGHT = 0.55
"""Inches of the color scale and its label."""
MOST_COLUMNS = 5
"""Most runs that are columns; more runs are rows."""
LARGEST_RATIO = 30.0
"""Largest ratio on the axis, whose inverse is the smallest."""
RATIOS = {8.0: (1, 1.5, 2, 3, 5), 100.0: (1, 2, 5, 10, 20), math.inf: (1, 10)}
"""Ratios with a tick, and their inverses, up to a quotient of the axis's ends."""
SUMS = ("total", "detection", "distillation")
ROW_HEIGHT = 0.16
"""Height of a term's row, in inches."""
SMALL = 6.5
"""Points of the numbers beside panels."""
SUPERSCRIPTS = str.maketrans(
    "-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)


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
    """Return a panel for each level of each run and image of ``cells``, with one color scale.

    The scale is logarithmic; values more than ``DECADES`` below the largest one have one color.
    Few runs are columns, many are rows.
    """
    rows = list(cells.groupby(["run", "image"], sort=False))
    levels = _levels(cells)
    across = len(levels) < len(rows) <= MOST_COLUMNS
    shape = (len(levels), len(rows)) if across else (len(rows), len(levels))
    aspect = max(image.pixels.shape[0] / image.pixels.shape[1] for image in images.values())
    side = min((WIDTH - MARGIN) / shape[1], PAGE_HEIGHT / (shape[0] * aspect))
    size = max(side * shape[1] + MARGIN, 2.5), side * aspect * shape[0] + MARGIN + SCALE_HEIGHT
    highest = cells["total"].max()
    with rc_context(STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)
        figure = Figure(figsize=size, layout=layout)
        panels = figure.subplots(*shape, squeeze=False)
        # One row of the grid for each run and image, one column for each level.
        grid = panels.T if across else panels
        for column, (level, _) in zip(grid.T, levels, strict=True):
            for axes, ((_, image), lines) in zip(column, rows, strict=True):
                drawn_map = _draw_panel(
                    axes, lines[lines["level"] == level], images[image], highest
                )
        length = max(int(side * (1 if across else aspect) / CHARACTER_WIDTH), 8)
        names = [_row_name(run, image, length, len(images) > 1) for (run, image), _ in rows]
        titles = [_level_title(*level) for level in levels]
        for axes, name in zip(panels[0], names if across else titles, strict=True):
            axes.set_title(name, fontweight="normal", fontsize=7)
        for axes, name in zip(panels[:, 0], titles if across else names, strict=True):
            _draw_row_title(axes, name)
        _draw_log_scale(drawn_map, list(panels.flat), highest)
    return figure


def _levels(frame: pd.DataFrame) -> list[tuple[int, int]]:
    """Return each level of a table and its stride."""
    return sorted(set(zip(frame["level"], frame["stride"], strict=True)))


def _level_title(level: int, stride: int) -> str:
    return f"Level {level}\nstride {stride}"


def _row_name(run: Any, image: Any, length: int, with_image: bool) -> str:
    name = textwrap.fill(str(run), length)
    return f"{name}\nimage {image}" if with_image else name


def _draw_panel(axes: Axes, cells: pd.DataFrame, image: AnnotatedImage, high: float) -> AxesImage:
    show_image(axes, image.pixels, gray=True)
    values = cells.pivot(index="y", columns="x", values="total").to_numpy()
    top = high or 1.0
    drawn_map = draw_map(
        axes, values, top / 10**DECADES, top, stride=cells["cell"].iloc[0], log=True
    )
    draw_boxes(axes, image.boxes, TRUTH_COLOR)
    return drawn_map


def _draw_log_scale(drawn_map: AxesImage, panels: list[Axes], high: float) -> None:
    """Draw the color scale of maps up to ``high``, with ticks at powers of ten."""
    scale = draw_scale(drawn_map, panels, below=True)
    scale.minorticks_off()
    if not high:
        scale.set_ticks([])
        scale.set_label("no gradient", fontsize=8)
        return
    top = math.log10(high)
    powers = range(math.ceil(top - DECADES), math.floor(top) + 1)
    scale.set_ticks([10.0**power for power in powers])
    scale.set_ticklabels([_power_of_ten(power) for power in powers], fontsize=7)
    scale.set_label("Norm of the total gradient (logarithmic scale)", fontsize=8)


def _power_of_ten(power: int) -> str:
    return "10" + str(power).translate(SUPERSCRIPTS)


def _draw_row_title(axes: Axes, title: str) -> None:
    """Draw a vertical title left of a panel."""
    axes.text(
        -0.06, 0.5, title, transform=axes.transAxes,
        rotation=90, ha="right", va="center", multialignment="center", fontsize=7,
    )  # fmt: skip


def plot_means(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a panel for each level of ``means``, with a row for each term of each run.

    A marker is at the ratio, and the number at the right is the mean on objects. Undefined ratios
    and means are left out, and a ratio beyond ``LARGEST_RATIO`` is at the edge. ``distillation`` is
    left out if it has only one term.
    """
    levels = _levels(frame)
    places = _row_places(frame)
    end = max(places.values()) + 0.6
    with rc_context(STYLE):
        size = WIDTH, ROW_HEIGHT * (end + 0.6) + 0.95
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(levels), squeeze=False, sharex=True, sharey=True)[0]
        limits = _limits(frame["ratio"])
        panels[0].set(xscale="log", xlim=limits, ylim=(end, -0.6))
        ratios = next(r for end, r in RATIOS.items() if limits[1] < end * limits[0])
        ticks = [r for ratio in ratios for r in {ratio, 1 / ratio} if limits[0] <= r <= limits[1]]
        panels[0].set_xticks(ticks, [f"{tick:.2g}" for tick in ticks], fontsize=7)
        _set_row_labels(panels[0], places)
        for axes, (level, stride) in zip(panels, levels, strict=True):
            axes.set_title(_level_title(level, stride), fontweight="normal", fontsize=7, loc="left")
            axes.annotate(
                "mean on\nobjects", (1.02, 1), (0, 4), xycoords="axes fraction",
                textcoords="offset points", fontsize=SMALL, color=QUIET, va="bottom",
            )  # fmt: skip
            axes.axvline(1, color=QUIET, linewidth=0.8, zorder=1)
            axes.tick_params(axis="y", length=0)
            axes.tick_params(axis="x", labelsize=7)
            axes.minorticks_off()
            rows = frame[frame["level"] == level].set_index(["run", "term"])
            _draw_ratios(axes, rows, places, looks)
        figure.supxlabel(
            "Mean gradient norm on objects / on background (logarithmic scale)", fontsize=8
        )
    return figure


def _limits(ratios: pd.Series) -> tuple[float, float]:
    """Return the limits of an axis that contains 1 and all ratios up to ``LARGEST_RATIO``."""
    positive = ratios[ratios > 0]
    low, high = min([1 / 1.4, *positive / 1.3]), max([1.4, *positive * 1.3])
    return max(low, 1 / LARGEST_RATIO), min(high, LARGEST_RATIO)


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
    names = [_term_name(term) if term else run for run, term in places]
    axes.set_yticks(list(places.values()), names)
    for text, (_, term) in zip(axes.get_yticklabels(), places, strict=True):
        text.set_fontweight("normal" if term else "bold")
        text.set_fontsize(7)


def _term_name(term: str) -> str:
    return term.capitalize() if term in SUMS else loss_name(term.removeprefix("loss_"))


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
            fontsize=SMALL,
            color=QUIET,
            va="center",
        )


def _short(value: float) -> str:
    """Return a number with two digits and a power of ten."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}\u00b7{_power_of_ten(int(power))}" if value else "0"
