"""Dot plots: a row for each run, a panel for each measure, points with their intervals."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plotting.panels import horizontal_grid
from analysis.plotting.style import QUIET, WIDTH, Look

LINE_HEIGHT = 0.26
"""Height of a run's row, in inches."""
LABEL_LENGTH = 24
"""Characters in a line of a run's name."""


def run_panels(
    run_names: Sequence[str], down: int, across: int, line_height: float = LINE_HEIGHT
) -> tuple[Figure, np.ndarray]:
    """Return a figure of ``down`` by ``across`` panels that have a row for each run.

    Call it and draw the panels under ``rc_context(STYLE)``.
    """
    height = down * (line_height * len(run_names) + 0.6) + 0.45
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    set_rows(list(grid.flat), run_names)
    return figure, grid


def set_rows(panels: Sequence[Axes], run_names: Sequence[str]) -> None:
    """Give panels that share their y axis a row for each run."""
    labels = [textwrap.fill(name, LABEL_LENGTH) for name in run_names]
    for axes in panels:
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        horizontal_grid(axes)
        axes.margins(x=0.1)
        axes.locator_params(axis="x", nbins=3)
        axes.tick_params(axis="x", labelsize=6.5)


def draw_points(
    axes: Axes,
    frame: pd.DataFrame,
    measure: str,
    looks: Mapping[str, Look],
    offset: float = 0.0,
    marker: str | None = None,
) -> None:
    """Draw ``measure`` between ``<measure>_low`` and ``<measure>_high`` on the row of each run.

    ``frame`` has a line for each run, in the order of the rows; NaN leaves a row empty. Points lie
    ``offset`` rows below the middle of their row. A ``marker`` is hollow and replaces the run's.
    """
    hollow = {"marker": marker, "markerfacecolor": "white"} if marker else {}
    for row, line in enumerate(frame.itertuples(index=False)):
        middle, low, high = (getattr(line, measure + end) for end in ("", "_low", "_high"))
        arms = None if np.isnan(low) else [[middle - low], [high - middle]]
        axes.errorbar(
            [middle], [row + offset], xerr=arms, markersize=4, elinewidth=0.9, capsize=1.5,
            **{**looks[str(line.run)].point, **hollow},
        )  # fmt: skip


def reference_handle(name: str) -> Line2D:
    """Return the legend entry of the lines of ``draw_reference``."""
    return Line2D([], [], color=QUIET, linewidth=0.8, linestyle=":", label=name)


def draw_reference(axes: Axes, value: float, dash: str = ":") -> None:
    """Draw a vertical line at the value that rows are compared with, unless it is NaN."""
    if not np.isnan(value):
        axes.axvline(value, color=QUIET, linewidth=0.8, linestyle=dash, zorder=0.5)
