"""Picture of optimal LRP: a panel for oLRP and for each component, with a row for each run."""

from collections.abc import Mapping

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.figures.lrp.compute import MEASURES
from analysis.plotting import dots
from analysis.plotting.style import STYLE, Look
from analysis.tables.formatting import ABSENT

TITLES = {
    "oLRP": "oLRP",
    "localization": "Localization",
    "false_positives": "False positives",
    "missed": "Missed",
}
NUMBER_ROOM = 0.3
"""Part of a panel's width that is left for the numbers."""
SMALL = 6.5
"""Points of the numbers in panels."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame], looks: Mapping[str, Look]
) -> dict[str, Figure]:
    """Return the picture of the tables of ``compute_tables``."""
    return {"lrp": plot(tables["lrp"], looks)}


def plot(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return points with intervals over images; each panel has its own scale."""
    with rc_context(STYLE):
        figure, grid = dots.run_panels(list(looks), 1, len(MEASURES))
        for axes, measure in zip(grid[0], MEASURES, strict=True):
            dots.draw_points(axes, frame, measure, looks)
            axes.set_title(TITLES[measure], loc="left")
            low, high = axes.get_xlim()
            axes.set_xlim(low, high + (high - low) * NUMBER_ROOM / (1 - NUMBER_ROOM))
            for row, value in enumerate(frame[measure]):
                axes.text(
                    0.99, row, f"{value:.1f}" if value >= 0 else ABSENT, va="center", ha="right",
                    transform=axes.get_yaxis_transform(), fontsize=SMALL,
                )  # fmt: skip
        figure.supxlabel("Points; lower is better (each panel has its own scale)", fontsize=8)
    return figure
