"""Pictures of TIDE, from its tables: costs and differences, shares, and costs over the IoU."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.figures.tide.compute import AVERAGED, IOU50, mean_points
from analysis.figures.tide.errors import ERRORS, MAIN
from analysis.plotting import dots
from analysis.plotting.panels import horizontal_grid, panel_grid
from analysis.plotting.style import QUIET, STYLE, TEACHER, WIDTH, Look, legend, legend_height
from analysis.tables.formatting import MINUS

LINE_HEIGHT, DIFFERENCES_HEIGHT = 0.2, 0.25
"""Height of a run's row of costs, and of differences, in inches."""
OFFSET = 0.2
"""Distance of differences at IoU 0.5 above the middle of their row, and of averages below it."""
AVERAGE_MARK: dict[str, Any] = {
    "marker": "D", "markersize": 3.2, "mfc": "white", "mec": "black", "mew": 0.7,
}  # fmt: skip
LEAST_REACH = 0.1
"""Smallest half range of an axis of differences, in AP points."""
COST_ROOM, NUMBER_WIDTH = 1.5, 0.55
"""End of an axis of costs, as a multiple of its largest cost: room for the numbers, and the width
of a number in the same unit."""
SMALL = 6.5
"""Points of the numbers in panels."""
SHARE_HEIGHT = 0.24
"""Height of a bar of shares, in inches."""
LEAST_PRINTED_SHARE = 3.5
"""Smallest share with its number in the bar, in per cent."""
SHADES = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#AA4455", "#DDDDDD")
"""Colors of ``MAIN``, from Tol's muted scheme; neighbors also differ in gray print."""
DARK = ("#332288", "#117733", "#AA4455")
CURVES = ("Cls", "Loc")
CURVES_HEIGHT = 2.0
"""Height of a panel of curves, in inches."""
STEPS = (1, 2, 5, 10)
"""First digits of round numbers, for ticks."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame], looks: Mapping[str, Look]
) -> dict[str, Figure]:
    """Return the pictures of the tables of ``compute_tables``, by name."""
    return {
        "tide": plot(tables["tide"], tables["tide-differences"], looks),
        "tide-share": plot_shares(tables["tide"], list(looks)),
        "tide-thresholds": plot_thresholds(tables["tide-thresholds"], looks),
    }


def plot(frame: pd.DataFrame, differences: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a column for each error with a row for each run: costs above, differences below.

    ``frame`` and ``differences`` are the tables of these names; differences may be empty. Each
    panel has its scale.
    """
    compared = {run: look for run, look in looks.items() if run in set(differences["run"])}
    heights = [LINE_HEIGHT * len(looks) + 0.6]
    heights += [DIFFERENCES_HEIGHT * len(compared) + 0.6] if compared else []
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + 0.35), layout="constrained")
        grid = figure.subplots(
            len(heights), len(ERRORS), squeeze=False, sharey="row", height_ratios=heights
        )
        _set_rows(grid[0], list(looks))
        _draw_costs(grid[0], frame, looks)
        if compared:
            _set_rows(grid[1], list(compared))
            _draw_differences(grid[1], differences, compared)
        figure.legend(handles=_legend_handles(), loc="outside upper right", ncols=2, frameon=False)
    return figure


def _set_rows(strip: Sequence[Axes], runs: Sequence[str]) -> None:
    labels = [textwrap.fill(name, dots.LABEL_LENGTH) for name in runs]
    for axes in strip:
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", labelsize=7)
        axes.xaxis.set_major_formatter("{x:g}")
        horizontal_grid(axes)


def _draw_costs(strip: Sequence[Axes], frame: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    at, averaged = mean_points(frame, IOU50), mean_points(frame, AVERAGED)
    for axes, error in zip(strip, ERRORS, strict=True):
        colors = [look.color for look in looks.values()]
        axes.barh(range(len(looks)), at.loc[list(looks), error], height=0.7, color=colors)
        axes.plot(
            averaged.loc[list(looks), error], range(len(looks)),
            linestyle="none", clip_on=False, **AVERAGE_MARK,
        )  # fmt: skip
        highest = pd.concat([at, averaged])[error].max() or 1
        axes.set_xlim(0, COST_ROOM * highest)
        costs, means = at.loc[list(looks), error], averaged.loc[list(looks), error]
        # If a mark would cover one of the numbers, all numbers of the panel are right of the marks.
        near = (means > costs - 0.1 * highest) & (means < costs + NUMBER_WIDTH * highest)
        ends = np.maximum(costs, means) if near.any() else costs
        for row, (cost, end) in enumerate(zip(costs, ends, strict=True)):
            axes.annotate(
                f"{cost:.1f}", (end, row), (4 if near.any() else 2, 0),
                textcoords="offset points", ha="left", va="center", fontsize=SMALL,
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(2, steps=STEPS))
        axes.set_title(error, loc="left")
    _set_label(strip, "dAP (AP points; each panel has its own scale)")


def _draw_differences(
    strip: Sequence[Axes], differences: pd.DataFrame, looks: Mapping[str, Look]
) -> None:
    numbers = differences.rename(columns={"low": "difference_low", "high": "difference_high"})
    columns = ["difference", "difference_low", "difference_high"]
    students = [run for run, look in looks.items() if look != TEACHER]
    for axes, error in zip(strip, ERRORS, strict=True):
        lines = numbers[numbers["quantity"] == error].set_index(["iou", "run"])[columns]
        scaled = lines[lines.index.isin(students, level="run")] if students else lines
        reach = 1.1 * max(scaled.abs().max().max(), LEAST_REACH)
        dots.draw_reference(axes, 0.0, "-")
        for iou, offset, marker in ((IOU50, -OFFSET, None), (AVERAGED, OFFSET, "D")):
            rows = lines.loc[iou].reindex(list(looks)).rename_axis("run").reset_index()
            dots.draw_points(axes, rows, "difference", looks, offset, marker)
            for row, value in enumerate(rows["difference"]):
                _draw_value_outside(axes, value, row + offset, reach)
        axes.set_xlim(-reach, reach)
        axes.set_xticks([-_round_down(reach), 0, _round_down(reach)])
        axes.set_title(error, loc="left")
    baseline = differences["baseline"].iloc[0]
    _set_label(strip, f"dAP less that of {baseline} (AP points; each panel has its own scale)")


def _draw_value_outside(axes: Axes, value: float, row: float, reach: float) -> None:
    """Print a value outside the scale at the end of the panel; only a teacher has one."""
    if not abs(value) > reach:
        return
    text = f"{value:+.1f}".replace("-", MINUS)
    axes.text(
        0.98 if value > 0 else 0.02, row, f"{text} >" if value > 0 else f"< {text}",
        transform=axes.get_yaxis_transform(), ha="right" if value > 0 else "left", va="center",
        fontsize=SMALL, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3},
    )  # fmt: skip


def _round_down(number: float) -> float:
    """Return the largest round number that is at most a positive ``number``."""
    power = 10.0 ** math.floor(math.log10(number))
    return power * max(step for step in STEPS if step * power <= number)


def _set_label(strip: Sequence[Axes], text: str) -> None:
    """Set one axis label below the middle of a strip of narrow panels."""
    for axes in strip:
        axes.set_xlabel(" ")
    strip[len(strip) // 2].set_xlabel(text, x=0, ha="center").set_in_layout(False)


def _legend_handles() -> list[Line2D]:
    return [
        Line2D([], [], color=QUIET, marker="s", linestyle="none", label="IoU 0.50 (and number)"),
        Line2D([], [], linestyle="none", label="mean over IoU 0.50 to 0.95", **AVERAGE_MARK),
    ]


def plot_shares(frame: pd.DataFrame, runs: Sequence[str]) -> Figure:
    """Return a stacked bar for each run: the share of each main error in their sum at IoU 0.5."""
    costs = mean_points(frame, IOU50).loc[list(runs), list(MAIN)]
    totals = costs.sum(axis=1)
    shares = 100 * costs.div(totals.where(totals > 0), axis=0)
    with rc_context(STYLE):
        size = (WIDTH, SHARE_HEIGHT * len(runs) + 0.85)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        start = np.zeros(len(runs))
        for error, color in zip(MAIN, SHADES, strict=True):
            widths = shares[error].fillna(0).to_numpy()
            axes.barh(
                range(len(runs)), widths, 0.78, left=start,
                color=color, edgecolor="white", linewidth=0.8,
            )  # fmt: skip
            for row, (left, width) in enumerate(zip(start, widths, strict=True)):
                if width >= LEAST_PRINTED_SHARE:
                    axes.text(
                        left + width / 2, row, f"{width:.0f}", ha="center", va="center",
                        fontsize=7, color="white" if color in DARK else "black",
                    )  # fmt: skip
            start = start + widths
        for row in np.flatnonzero(~(totals > 0)).tolist():
            axes.text(1, row, "no error", va="center", fontsize=7, color=QUIET)
        axes.set_yticks(range(len(runs)), [textwrap.fill(r, dots.LABEL_LENGTH) for r in runs])
        axes.set(xlim=(0, 100), ylim=(len(runs) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("Share in the sum of the main errors' dAP at IoU 0.50 (%)")
        patches = [Patch(facecolor=c, label=e) for c, e in zip(SHADES, MAIN, strict=True)]
        figure.legend(handles=patches, loc="outside upper center", ncols=len(MAIN), frameon=False)
    return figure


def plot_thresholds(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return the costs of Cls and Loc over the IoU threshold, as in DICOD's Fig. 3.

    Lines are means over the seeds.
    """
    rows = frame.groupby(["quantity", "run", "iou"])["points"].mean()
    with rc_context(STYLE):
        figure, panels = panel_grid(
            len(CURVES), len(CURVES), CURVES_HEIGHT, 0.6 + legend_height(looks), sharex=True
        )
        for axes, error in zip(panels, CURVES, strict=True):
            for run, look in looks.items():
                curve = rows[error][run]
                axes.plot(
                    curve.index, curve, marker=look.marker, markersize=3, linewidth=1,
                    clip_on=False, **look.line,
                )  # fmt: skip
            axes.set_title(error, loc="left")
            axes.set_xlabel("IoU threshold")
            axes.set_xticks(curve.index[::2])
            axes.set_xlim(curve.index.min(), curve.index.max())
            axes.set_ylim(bottom=0)
            horizontal_grid(axes)
        panels[0].set_ylabel("dAP (AP points)")
        legend(figure, looks)
    return figure
