"""Picture of reliability diagrams, from the tables of ``compute_tables``."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.calibration.compute import means
from analysis.plotting.panels import columns_of, panel_grid
from analysis.plotting.style import QUIET, STYLE, Look

LEAST_COLUMNS, MOST_COLUMNS = 3, 4
PANEL_HEIGHT = 2.75
"""Inches of a diagram with the counts below it."""
COUNTS_PLACE = (0.0, -0.4, 1.0, 0.28)
"""Left, bottom, width and height of the counts, in parts of the diagram."""
LEAST_COUNT = 20
"""Detections of a bin whose marks are filled."""
LOWEST = 0.5
"""Lower end of the logarithmic axis of counts."""
LABEL_LENGTH = 24
SMALL = 6.5
"""Points of the numbers in panels."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame], looks: Mapping[str, Look]
) -> dict[str, Figure]:
    """Return the picture of the tables of ``compute_tables``."""
    return {"calibration": plot(tables["calibration-bins"], means(tables["calibration"]), looks)}


def plot(bins: pd.DataFrame, errors: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a diagram of each run, with the counts of its bins below; ``errors`` by run."""
    across = max(columns_of(len(looks), most=MOST_COLUMNS), LEAST_COLUMNS)
    most = max(int(bins["count"].max()), 1)
    with rc_context(STYLE):
        figure, panels = panel_grid(
            len(looks), across, PANEL_HEIGHT, 0.35, sharex=True, sharey=True
        )
        for place, (axes, (run, look)) in enumerate(zip(panels, looks.items(), strict=True)):
            lines = bins[bins["run"] == run]
            axes.set_title(textwrap.fill(run, LABEL_LENGTH), loc="left", fontsize=8)
            _draw_diagram(axes, lines, look, errors.loc[run])
            counts = axes.inset_axes(COUNTS_PLACE)
            _draw_counts(counts, lines, look, most)
            counts.set_xlabel("Confidence")
            if place % across:
                counts.tick_params(axis="y", length=0, labelleft=False)
                axes.tick_params(axis="y", length=0)
            else:
                axes.set_ylabel("Precision")
                counts.set_ylabel("Count")
        figure.legend(handles=_legend_handles(), loc="outside upper left", ncols=4, frameon=False)
    return figure


def _draw_diagram(axes: Axes, bins: pd.DataFrame, look: Look, errors: Any) -> None:
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle="--", zorder=1)
    filled = bins[bins["count"] > 0]
    for column, marker in (("precision", "o"), ("precision_iou", "D")):
        axes.plot(filled["confidence"], filled[column], color=look.color, linewidth=0.8, zorder=2)
        for is_large, lines in filled.groupby(filled["count"] >= LEAST_COUNT):
            face = look.color if is_large else "white"
            axes.plot(
                lines["confidence"], lines[column], linestyle="none", marker=marker,
                markersize=4 if marker == "o" else 3.2, color=look.color, markerfacecolor=face,
                markeredgewidth=0.8, zorder=3, clip_on=False,
            )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xticks([0, 0.5, 1], [])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    texts = [f"{name} {errors[name]:.1f}" for name in ("D-ECE", "LaECE") if errors[name] >= 0]
    axes.text(
        0.04, 0.96, "\n".join(texts) or "no detection", transform=axes.transAxes,
        va="top", fontsize=SMALL, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
    )  # fmt: skip


def _draw_counts(axes: Axes, bins: pd.DataFrame, look: Look, most: int) -> None:
    widths = bins["high"] - bins["low"]
    # Heights are logarithms; a count of 1 has a height, too.
    heights = np.log10(np.maximum(bins["count"], LOWEST) / LOWEST)
    axes.bar(bins["low"], heights, 0.9 * widths, align="edge", color=look.color, alpha=0.6)
    axes.set(xlim=(0, 1), ylim=(0, np.log10(2 * most / LOWEST)))
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ticks = [10**power for power in range(0, int(np.log10(most)) + 1, 2)]
    axes.set_yticks(np.log10(np.array(ticks) / LOWEST), [f"{tick:,}" for tick in ticks])
    axes.tick_params(axis="y", labelsize=SMALL)


def _legend_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=QUIET, marker="o", markersize=4, linewidth=0.8, label="precision"),
        Line2D(
            [], [], color=QUIET, marker="D", markersize=3.2, linewidth=0.8,
            label="precision times IoU",
        ),
        Line2D([], [], color=QUIET, linestyle="--", linewidth=0.8, label="calibrated"),
        Line2D(
            [], [], color=QUIET, marker="o", markersize=4, markerfacecolor="white", linewidth=0,
            markeredgewidth=0.8, label=f"fewer than {LEAST_COUNT} detections",
        ),
    ]  # fmt: skip
