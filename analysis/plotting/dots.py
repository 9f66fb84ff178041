"""Figures with a row for each run and a panel for each measure: points with their intervals."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plotting.style import QUIET, STYLE, WIDTH, Look

LINE_HEIGHT = 0.26
"""Inches for one run."""
LABEL_LENGTH = 24
"""Characters."""


def panels(
    runs: Sequence[str], down: int, across: int, line_height: float = LINE_HEIGHT
) -> tuple[Figure, np.ndarray]:
    """Return a figure of ``down`` by ``across`` axes with a row for each run; draw it in STYLE."""
    height = down * (line_height * len(runs) + 0.6) + 0.45
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    names = [textwrap.fill(run, LABEL_LENGTH) for run in runs]
    for axes in grid.flat:
        axes.set_yticks(range(len(runs)), names)
        axes.set_ylim(len(runs) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.margins(x=0.1)
        axes.locator_params(axis="x", nbins=3)
        axes.tick_params(axis="x", labelsize=6.5)
    return figure, grid


def points(
    axes: Axes,
    frame: pd.DataFrame,
    measure: str,
    looks: Mapping[str, Look],
    offset: float = 0.0,
    marker: str | None = None,
) -> None:
    """Draw ``measure`` between ``<measure>_low`` and ``_high`` on each run's row; gaps for NaN.

    ``frame``: a line per run, in the order of the rows. ``offset``: below the middle of the row,
    in rows; ``marker``: hollow, in place of the run's own.
    """
    hollow = {"marker": marker, "markerfacecolor": "white"} if marker else {}
    for row, line in enumerate(frame.itertuples(index=False)):
        middle, low, high = (getattr(line, measure + end) for end in ("", "_low", "_high"))
        arms = None if np.isnan(low) else [[middle - low], [high - middle]]
        axes.errorbar(
            [middle], [row + offset], xerr=arms, markersize=4, elinewidth=0.9, capsize=1.5,
            **{**looks[str(line.run)].point, **hollow},
        )  # fmt: skip


def reference(axes: Axes, value: float, dash: str = ":") -> None:
    """Draw a line that the rows are to be compared with, where there is a value."""
    if not np.isnan(value):
        axes.axvline(value, color=QUIET, linewidth=0.8, linestyle=dash, zorder=0.5)


def note(text: str) -> Figure:
    """Return a figure that says why there is nothing to draw."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1), layout="constrained")
        figure.text(0.5, 0.5, text, ha="center", va="center", color=QUIET)
    return figure
