"""Picture of reliability diagrams, from the tables of ``compute_tables``."""

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.calibration.compute import means
from analysis.plotting.panels import columns_of
from analysis.plotting.style import QUIET, STYLE, WIDTH, Look

LEAST_COLUMNS, MOST_COLUMNS = 3, 4
DIAGRAM_HEIGHT, COUNTS_HEIGHT = 1.6, 0.45
"""Inches of a diagram and of the counts below it."""
EXTRA_HEIGHT = 0.7
"""Inches of the titles and labels of a row of diagrams."""
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
    down = -(-len(looks) // across)
    height = down * (DIAGRAM_HEIGHT + COUNTS_HEIGHT + EXTRA_HEIGHT) + 0.35
    most = max(int(bins["count"].max()), 1)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(
            2 * down, across, squeeze=False, sharex=True, sharey="row",
            height_ratios=[DIAGRAM_HEIGHT, COUNTS_HEIGHT] * down,
        )  # fmt: skip
        for place, (run, look) in enumerate(looks.items()):
            row, column = divmod(place, across)
            lines = bins[bins["run"] == run]
            diagram, counts = grid[2 * row, column], grid[2 * row + 1, column]
            _draw_diagram(diagram, lines, look, errors.loc[run])
            diagram.set_title(textwrap.fill(run, LABEL_LENGTH), loc="left", fontsize=8)
            _draw_counts(counts, lines, look, most)
            if column == 0:
                diagram.set_ylabel("Precision")
                counts.set_ylabel("Count")
            else:
                diagram.tick_params(axis="y", length=0)
                counts.tick_params(axis="y", length=0)
            counts.set_xlabel("Confidence")
            counts.tick_params(labelbottom=True)
        for axes in [*grid[0::2].flat[len(looks) :], *grid[1::2].flat[len(looks) :]]:
            axes.remove()
        figure.legend(handles=_legend_handles(), loc="outside upper left", ncols=3, frameon=False)
    return figure


def _draw_diagram(axes: Axes, bins: pd.DataFrame, look: Look, errors: pd.Series) -> None:
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle="--", zorder=1)
    filled = bins[bins["count"] > 0]
    for column, marker in (("precision", "o"), ("precision_iou", "D")):
        axes.plot(filled["confidence"], filled[column], color=look.color, linewidth=0.8, zorder=2)
        for lines, face in (
            (filled[filled["count"] >= LEAST_COUNT], look.color),
            (filled[filled["count"] < LEAST_COUNT], "white"),
        ):
            axes.plot(
                lines["confidence"], lines[column], linestyle="none", marker=marker,
                markersize=4 if marker == "o" else 3.2, color=look.color, markerfacecolor=face,
                markeredgewidth=0.8, zorder=3, clip_on=False,
            )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
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
    axes.bar(
        bins["low"], np.maximum(bins["count"] - LOWEST, 0), 0.9 * widths, align="edge",
        bottom=LOWEST, color=look.color, alpha=0.6,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(LOWEST, 2 * most)
    ticks = [10**power for power in range(0, int(np.log10(most)) + 1, 2)]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.tick_params(axis="y", labelsize=SMALL)


def _legend_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=QUIET, marker="o", markersize=4, linewidth=0.8, label="precision"),
        Line2D(
            [], [], color=QUIET, marker="D", markersize=3.2, linewidth=0.8,
            label="precision times IoU",
        ),
        Line2D([], [], color=QUIET, linestyle="--", linewidth=0.8, label="calibrated"),
    ]  # fmt: skip
