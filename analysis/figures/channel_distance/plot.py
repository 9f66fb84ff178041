"""Picture of distances to the teacher: curves over channels, and means over channels."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.channel_distance.compute import means
from analysis.plotting.style import STYLE, WIDTH, Look, legend, legend_height

TITLES = {"objects": "Object cells", "background": "Background cells"}
"""Panel title of each region."""
Order = Literal["network", "baseline", "own"]
"""Order of the channels: the network's, by the baseline's distance, or by each run's distance."""
CURVES_HEIGHT, ROW_HEIGHT = 2.2, 0.17
"""Height of the panels of curves, and of a run's row below them, in inches."""
STRIP_HEIGHT = 0.75
"""Height of the panel of one run, in inches."""
MOST_HIDDEN = 2
"""Runs beside the reference from which on each has a panel, in the order of the network."""
MARKERS = 5
"""Approximate number of markers on a curve."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame], looks: Mapping[str, Look], order: Order, reference: str
) -> dict[str, Figure]:
    """Return the picture of the tables of ``compute_tables``, by name."""
    return {"channel_distance": plot(tables["channel_distance"], looks, order, reference)}


def plot(
    distances: pd.DataFrame, looks: Mapping[str, Look], order: Order = "own", reference: str = ""
) -> Figure:
    """Return panels of curves for each region, above a panel with the runs' means.

    ``distances`` is the table of that name; ``reference`` is the run for the order "baseline". In
    the order of the network neighbors differ much and curves would hide each other, so each run has
    a panel, with the distances of the reference as a gray area.
    """
    averages = means(distances).pivot(index="run", columns="region", values="mean")
    means_height = ROW_HEIGHT * (len(looks) + 1)
    strips = _strips(looks, order, reference)
    heights = [max(CURVES_HEIGHT / len(strips), STRIP_HEIGHT)] * len(strips)
    with rc_context(STYLE):
        size = WIDTH, sum(heights) + means_height + 0.9 + legend_height(looks)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(strips) + 1, 2, height_ratios=[*heights, means_height])
        curves, bars = grid[:-1], grid[-1]
        for region, panels, lower in zip(TITLES, curves.T, bars, strict=True):
            lines = distances[distances["region"] == region]
            by_run = _sorted(
                lines.pivot(index="channel", columns="run", values="distance"), order, reference
            )
            for axes, strip in zip(panels, strips, strict=True):
                if len(strips) > 1:
                    _fill(axes, by_run[reference], looks[reference])
                _draw_curves(axes, by_run, strip)
                axes.set_ylim(0, _axis_end(distances["distance"]))
                axes.tick_params(labelbottom=axes is panels[-1])
            panels[0].set_title(TITLES[region], loc="left")
            panels[-1].set_xlabel(_axis_label(order, reference))
            _draw_means(lower, averages[region], looks, _digits(averages.max().max()))
        curves[len(strips) // 2, 0].set_ylabel("Mean |teacher - student|")
        for axes in curves[:, 1]:
            axes.tick_params(axis="y", length=0, labelleft=False)
        bars[1].sharex(bars[0])
        bars[1].tick_params(axis="y", length=0, labelleft=False)
        bars[0].set_xlim(0, _axis_end(averages.max()) * 1.15)
        bars[0].set_ylim(len(looks) - 0.4, -0.6)
        bars[0].set_yticks(range(len(looks)), list(looks))
        bars[1].set_ylim(bars[0].get_ylim())
        bars[0].locator_params(axis="x", nbins=6)
        legend(figure, looks)
    return figure


def _strips(looks: Mapping[str, Look], order: Order, reference: str) -> list[dict[str, Look]]:
    """Return the runs of each row of panels: all in one, or one in each but the reference."""
    others = [run for run in looks if run != reference]
    if order != "network" or reference not in looks or len(others) < MOST_HIDDEN:
        return [dict(looks)]
    return [{run: looks[run]} for run in others]


def _fill(axes: Axes, distances: pd.Series, look: Look) -> None:
    """Draw the distances of a run as an area under its curve."""
    axes.fill_between(
        np.arange(len(distances)), 0, distances, color=look.color, alpha=0.45, linewidth=0
    )


def _sorted(by_run: pd.DataFrame, order: Order, reference: str) -> pd.DataFrame:
    """Return the distances (channels by runs) in the order of the axis."""
    if order == "baseline":
        return by_run.sort_values(reference, ascending=False, ignore_index=True)
    if order == "own":
        return by_run.apply(lambda column: -np.sort(-column))
    return by_run


def _axis_label(order: Order, reference: str) -> str:
    if order == "network":
        return "Channel"
    if order == "own":
        return "Channel rank (each run sorted separately)"
    return f"Channel rank (sorted by the distance of {reference})"


def _draw_curves(axes: Axes, by_run: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    distance = max(len(by_run) // MARKERS, 1)
    for number, (run, look) in enumerate(looks.items()):
        # Each run has its markers at other channels, so that none covers another.
        every = (number * distance // len(looks), distance)
        axes.plot(
            np.arange(len(by_run)), by_run[run], linewidth=0.9, label=run,
            marker=look.marker, markersize=3, markevery=every, **look.line,
        )  # fmt: skip
    axes.set_xlim(0, max(len(by_run) - 1, 1))
    axes.grid(axis="y", color="0.92", linewidth=0.8)


def _draw_means(axes: Axes, averages: pd.Series, looks: Mapping[str, Look], digits: int) -> None:
    """Draw each run's mean as a bar from 0."""
    for place, (run, look) in enumerate(looks.items()):
        value, defined = averages[run], not math.isnan(averages[run])
        axes.plot([0, value], [place, place], linewidth=1.2, **look.line)
        axes.plot([value], [place], markersize=4, **look.point)
        axes.annotate(
            f"{value:.{digits}f}" if defined else "no such cell",
            (value if defined else 0, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Mean over the channels")


def _digits(largest: float) -> int:
    """Return the decimals of all means, three digits for the largest."""
    return max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 2


def _axis_end(values: pd.Series) -> float:
    """Return the end of an axis that starts at 0."""
    return 1.05 * values.max() if values.max() > 0 else 1.0
