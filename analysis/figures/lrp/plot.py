"""Picture of optimal LRP: a panel for oLRP and for each component, with a row for each run."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.lrp.compute import MEASURES
from analysis.plotting import dots
from analysis.plotting.style import STYLE, WIDTH, Look
from analysis.tables.formatting import ABSENT
from kd.common.lettering import legible

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
    return {"lrp": plot(tables["lrp"], tables["lrp-differences"], looks)}


def plot(frame: pd.DataFrame, differences: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return points with intervals over images, above differences from the baseline, if any.

    Each panel has its own scale.
    """
    compared = [run for run in looks if run in set(differences["run"])]
    strips = [list(looks), compared] if compared else [list(looks)]
    heights = [dots.LINE_HEIGHT * len(runs) + 0.6 for runs in strips]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.35), layout="constrained")
        grid = figure.subplots(
            len(strips), len(MEASURES), squeeze=False, sharey="row", height_ratios=heights
        )
        for strip, runs in zip(grid, strips, strict=True):
            dots.set_rows(strip, runs)
        _draw_measures(grid[0], frame, looks)
        if compared:
            _draw_differences(grid[1], differences, looks)
        figure.supxlabel("Points; lower is better (each panel has its own scale)", fontsize=8)
    return figure


def _draw_measures(strip: Sequence[Axes], frame: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    for axes, measure in zip(strip, MEASURES, strict=True):
        dots.draw_points(axes, frame, measure, looks)
        axes.set_title(TITLES[measure], loc="left")
        low, high = axes.get_xlim()
        axes.set_xlim(low, high + (high - low) * NUMBER_ROOM / (1 - NUMBER_ROOM))
        for row, value in enumerate(frame[measure]):
            axes.text(
                0.99, row, f"{value:.1f}" if value >= 0 else ABSENT, va="center", ha="right",
                transform=axes.get_yaxis_transform(), fontsize=SMALL,
            )  # fmt: skip


def _draw_differences(
    strip: Sequence[Axes], differences: pd.DataFrame, looks: Mapping[str, Look]
) -> None:
    baseline = legible(differences["baseline"].iloc[0], 20)
    for axes, measure in zip(strip, MEASURES, strict=True):
        dots.draw_reference(axes, 0.0, "-")
        dots.draw_points(axes, differences, measure, looks)
        axes.set_title(f"less {baseline}", loc="left", fontsize=8, fontweight="normal")
        reach = max(abs(limit) for limit in axes.get_xlim())
        axes.set_xlim(-reach, reach)
