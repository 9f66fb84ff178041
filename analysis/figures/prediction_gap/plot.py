"""Pictures of the prediction gap: the similarity of both gaps by level."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.figures.prediction_gap.gaps import GapImage
from analysis.figures.prediction_gap.plot_maps import plot_maps
from analysis.plotting.dots import draw_points, draw_reference, reference_handle, run_panels
from analysis.plotting.panels import message_figure
from analysis.plotting.style import STYLE, Look

TITLES = {
    "pearson": "Pearson's r",
    "spearman": "Spearman's rho",
    "share": "share of $F_{dif}$ in the tenth of cells with the highest $P_{dif}$",
}
"""Axis label of each measure."""
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
        "prediction_gap-maps": plot_maps(
            examples, list(looks), level, tables["prediction_gap-marks"]
        ),
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
