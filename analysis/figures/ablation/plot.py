"""Pictures of ablation plots: a panel for each swept setting."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

from analysis.figures.ablation.compute import is_numeric
from analysis.plotting.panels import horizontal_grid, panel_grid, widen
from analysis.plotting.style import STYLE, Look, legend, legend_height
from kd.common.lettering import legible

COLUMNS = 3
"""Panels in a row."""
PANEL_HEIGHT = 2.3
"""Height of a panel in inches."""
LOG_RATIO = 10
"""Ratio of largest to smallest value from which on an axis is logarithmic."""
ROW_DISTANCE, ROWS_WIDTH = 3.0, 20.0
"""Distance between the bars of two rows at one value, and the most for all of them, in points."""
SMALLEST_GAP = 0.06
"""Smallest distance of ticks at the values, as a share of the axis; below it ticks are round."""
NAME_LENGTH, LINE_LENGTH = 24, 30
"""Characters of a value's name, and of all names of an axis before they are turned."""
LEAST_SPAN = 5
"""Smallest range of the metric's axis in points where rows have one seed, whose variation between
seeds is unknown."""
MARGIN = 0.06
"""Share of the axis left of the first value and right of the last."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame], looks: Mapping[str, Look], metric: str
) -> dict[str, Figure]:
    """Return the pictures of the tables of ``compute_tables``, by name."""
    return {"ablation": plot(tables["ablation"], looks, metric)}


def plot(frame: pd.DataFrame, looks: Mapping[str, Look], metric: str) -> Figure:
    """Return a panel for each setting: means with intervals, and lines for rows without it."""
    fixed = frame[frame["setting"] == ""]
    settings = list(frame.loc[frame["setting"] != "", "setting"].unique())
    with rc_context(STYLE):
        figure, panels = panel_grid(
            len(settings), COLUMNS, PANEL_HEIGHT, 0.3 + legend_height(looks), sharey=True
        )
        for axes, name in zip(panels, settings, strict=True):
            _draw_panel(axes, frame[frame["setting"] == name], fixed, looks)
            axes.set_xlabel(name)
        if (frame["n"] < 2).any():
            widen(panels[0], "y", LEAST_SPAN)
        figure.supylabel(f"{metric} (points), {_seeds(frame['n'])}", fontsize=8)
        legend(figure, looks)
    return figure


def _seeds(counts: "pd.Series[int]") -> str:
    fewest, most = counts.min(), counts.max()
    number = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{number} seed" if most == 1 else f"{number} seeds"


def _draw_panel(
    axes: Axes, lines: pd.DataFrame, fixed: pd.DataFrame, looks: Mapping[str, Look]
) -> None:
    _draw_fixed_rows(axes, fixed, looks)
    values = list(dict.fromkeys(lines["value"]))
    places = _scale_axis(axes, values)
    rows = list(lines.groupby("row", sort=False))
    # Without bars, points stay at their ticks.
    step = min(ROW_DISTANCE, ROWS_WIDTH / len(rows)) if lines["low"].notna().any() else 0
    for number, (row, points) in enumerate(rows):
        look, shift = looks[str(row)], step * (number - (len(rows) - 1) / 2)
        aside = ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
        # Names have no order, and values of one seed no known variation, that a line could show.
        follows = is_numeric(values) and (points["n"] > 1).all()
        line = look.line if follows else {**look.line, "linestyle": "none"}
        axes.errorbar(
            [places[value] for value in points["value"]], points["mean"],
            yerr=(points["mean"] - points["low"], points["high"] - points["mean"]),
            marker=look.marker, markersize=4, capsize=2, linewidth=1.0, elinewidth=0.9,
            label=row, transform=axes.transData + aside, **line,
        )  # fmt: skip
    # Autoscaling ignores artists whose transform is not that of the data.
    heights = lines[["mean", "low", "high"]].to_numpy(float).ravel()
    axes.update_datalim([(0, height) for height in heights[np.isfinite(heights)]], updatex=False)
    axes.autoscale_view(scalex=False)
    horizontal_grid(axes)


def _draw_fixed_rows(axes: Axes, fixed: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    """Draw rows without the swept setting: lines across the panel, with bands of intervals."""
    for row, mean, low, high in fixed[["row", "mean", "low", "high"]].to_numpy():
        mark: dict[str, Any] = {
            "marker": looks[row].marker,
            "markersize": 4,
            "markevery": [1],
            "clip_on": False,
        }
        axes.axhline(mean, linewidth=1.0, label=row, **looks[row].line, **mark)
        if not math.isnan(low):
            axes.axhspan(low, high, color=looks[row].color, alpha=0.12, linewidth=0)


def _scale_axis(axes: Axes, values: list[float | str]) -> dict[float | str, float]:
    """Scale the axis for the values of a setting; return the position of each value on it."""
    if not is_numeric(values):
        labels = [legible(str(value), NAME_LENGTH) for value in values]
        rotation = 30 if sum(map(len, labels)) > LINE_LENGTH else 0
        axes.set_xticks(range(len(values)), labels, rotation=rotation)
        axes.set_xlim(-0.5, len(values) - 0.5)
        return {value: float(place) for place, value in enumerate(values)}
    numbers = sorted(float(value) for value in values)
    positive = [value for value in numbers if value > 0]
    if numbers[0] >= 0 and positive and positive[-1] >= LOG_RATIO * positive[0]:
        if positive == numbers:
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=positive[0])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    _set_ticks(axes, numbers)
    return {value: float(value) for value in values}


def _set_ticks(axes: Axes, numbers: list[float]) -> None:
    """Set ticks at the values, unless these are too close, and the limits of the axis."""
    scale = axes.xaxis.get_transform()
    places = scale.transform(np.array(numbers))
    span = places[-1] - places[0] or 1.0
    if all(after - before >= SMALLEST_GAP * span for before, after in pairwise(places)):
        axes.set_xticks(numbers, [f"{value:g}" for value in numbers])
    ends = np.array([places[0] - MARGIN * span, places[-1] + MARGIN * span])
    axes.set_xlim(*scale.inverted().transform(ends))
