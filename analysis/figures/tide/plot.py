"""Pictures of TIDE, from its tables: costs and differences, shares, and costs over the IoU."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from analysis.figures.tide.compute import AVERAGED, IOU50, mean_points
from analysis.figures.tide.errors import ERRORS, MAIN, SPECIAL
from analysis.plotting import dots
from analysis.plotting.panels import horizontal_grid, panel_grid
from analysis.plotting.style import QUIET, STYLE, WIDTH, Look, legend, legend_height

LINE_HEIGHT = 0.2
"""Height of a run's row, in inches."""
OFFSET = 0.2
"""Distance of differences at IoU 0.5 above the middle of their row, and of averages below it."""
AVERAGE_MARK: dict[str, Any] = {
    "marker": "D", "markersize": 3.2, "mfc": "white", "mec": "black", "mew": 0.7,
}  # fmt: skip
LEAST_REACH = 0.5
"""Smallest half range of an axis of differences, in AP points."""
COST_ROOM = 1.75
"""End of an axis of costs, as a multiple of the longest bar: room for the numbers."""
RINGS_PER_ROW = 5
RING_WIDTH = WIDTH / RINGS_PER_ROW
"""Width of a ring, in inches."""
LEAST_NAMED_SHARE = 0.07
"""Smallest share of an error with its name in the ring."""
SHADES = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#DDDDDD")
"""Colors of ``MAIN``, from Tol's muted scheme; neighbors also differ in gray print."""
DARK = ("#332288", "#117733", "#CC6677")
SPECIAL_SHADES = ("0.35", "0.7")
CURVES = ("Cls", "Loc")
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

    ``frame`` and ``differences`` are the tables of these names; differences may be empty.
    """
    runs = list(looks)
    with rc_context(STYLE):
        figure, grid = dots.run_panels(runs, 1 + bool(len(differences)), len(ERRORS), LINE_HEIGHT)
        _draw_costs(grid[0], frame, looks)
        if len(differences):
            _draw_differences(grid[1], differences, looks)
        for axes in grid.flat:
            axes.tick_params(axis="x", labelsize=7)
            axes.xaxis.set_major_formatter("{x:g}")
        figure.legend(handles=_legend_handles(), loc="outside upper right", ncols=2, frameon=False)
    return figure


def _errors_on_axis(error: str) -> list[str]:
    """Return the errors that have the same axis limits as ``error``."""
    return list(MAIN if error in MAIN else SPECIAL)


def _draw_costs(strip: Sequence[Axes], frame: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    at, averaged = mean_points(frame, IOU50), mean_points(frame, AVERAGED)
    for axes, error in zip(strip, ERRORS, strict=True):
        colors = [look.color for look in looks.values()]
        axes.barh(range(len(looks)), at.loc[list(looks), error], height=0.7, color=colors)
        axes.plot(
            averaged.loc[list(looks), error], range(len(looks)),
            linestyle="none", clip_on=False, **AVERAGE_MARK,
        )  # fmt: skip
        highest = pd.concat([at, averaged])[_errors_on_axis(error)].max().max()
        axes.set_xlim(0, COST_ROOM * highest or 1)
        for row, run in enumerate(looks):
            axes.text(
                1.0, row, f"{at[error][run]:.1f}", transform=axes.get_yaxis_transform(),
                ha="right", va="center", fontsize=6,
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=STEPS))
        axes.set_title(error, loc="left")
    _set_label(strip, "dAP (AP points)")


def _draw_differences(
    strip: Sequence[Axes], differences: pd.DataFrame, looks: Mapping[str, Look]
) -> None:
    numbers = differences.rename(columns={"low": "difference_low", "high": "difference_high"})
    columns = ["difference", "difference_low", "difference_high"]
    for axes, error in zip(strip, ERRORS, strict=True):
        lines = numbers[numbers["quantity"] == error].set_index(["iou", "run"])[columns]
        dots.draw_reference(axes, 0.0, "-")
        for iou, offset, marker in ((IOU50, -OFFSET, None), (AVERAGED, OFFSET, "D")):
            rows = lines.loc[iou].reindex(list(looks)).rename_axis("run").reset_index()
            dots.draw_points(axes, rows, "difference", looks, offset, marker)
        group = numbers[numbers["quantity"].isin(_errors_on_axis(error))][columns]
        reach = 1.08 * max(group.abs().max().max(), LEAST_REACH)
        axes.set_xlim(-reach, reach)
        axes.set_xticks([-_round_down(reach), 0, _round_down(reach)])
        axes.set_title(error, loc="left")
    _set_label(strip, f"dAP less that of {differences['baseline'].iloc[0]} (AP points)")


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


def plot_shares(frame: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """Return a ring of the main errors' costs at IoU 0.5 for each run, above bars of FP and FN."""
    costs = mean_points(frame, IOU50).T
    across = min(len(labels), RINGS_PER_ROW)
    down = -(-len(labels) // across)
    highest = max(costs.loc[list(SPECIAL)].max().max(), 1)
    with rc_context(STYLE):
        size = (max(across, 2) * RING_WIDTH, 2.1 * down + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        grid = GridSpec(2 * down, across, figure, height_ratios=[3.2, 1] * down)
        for place, label in enumerate(labels):
            row, column = divmod(place, across)
            ring = figure.add_subplot(grid[2 * row, column])
            ring.set_title(textwrap.fill(label, 20), fontsize=8)
            _draw_ring(ring, costs[label][list(MAIN)])
            bars = figure.add_subplot(grid[2 * row + 1, column])
            _draw_special(bars, costs[label][list(SPECIAL)], highest, with_names=column == 0)
            if row == down - 1 or place + across >= len(labels):
                bars.set_xlabel("dAP (AP points)")
        patches = [Patch(facecolor=c, label=e) for c, e in zip(SHADES, MAIN, strict=True)]
        columns = len(MAIN) if across > 2 else len(MAIN) // 2
        figure.legend(handles=patches, loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _draw_ring(axes: Axes, costs: pd.Series) -> None:
    total = costs.sum()
    axes.set_aspect("equal")
    if not total > 0:
        axes.pie([1], colors=["white"], wedgeprops={"width": 0.6, "edgecolor": QUIET})
        axes.text(0, 0, "no error", ha="center", va="center", color=QUIET)
        return
    names = [error if costs[error] >= LEAST_NAMED_SHARE * total else "" for error in MAIN]
    _, texts = axes.pie(
        costs,
        labels=names,
        colors=SHADES,
        startangle=90,
        counterclock=False,
        labeldistance=0.7,
        radius=1.2,
        textprops={"ha": "center", "va": "center", "fontsize": 7},
        wedgeprops={"width": 0.85, "edgecolor": "white", "linewidth": 0.8},
    )[:2]
    for text, color in zip(texts, SHADES, strict=True):
        text.set_color("white" if color in DARK else "black")


def _draw_special(axes: Axes, costs: pd.Series, highest: float, with_names: bool) -> None:
    axes.barh(range(len(SPECIAL)), costs, height=0.7, color=SPECIAL_SHADES)
    axes.set_yticks(range(len(SPECIAL)), SPECIAL if with_names else [""] * len(SPECIAL))
    axes.set_ylim(len(SPECIAL) - 0.5, -0.5)
    axes.set_xlim(0, 1.05 * highest)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=STEPS))


def plot_thresholds(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return the costs of Cls and Loc over the IoU threshold, as in DICOD's Fig. 3.

    Lines are means over the seeds.
    """
    rows = frame.groupby(["quantity", "run", "iou"])["points"].mean()
    with rc_context(STYLE):
        figure, panels = panel_grid(len(CURVES), len(CURVES), 2.3, legend_height(looks))
        for axes, error in zip(panels, CURVES, strict=True):
            for run, look in looks.items():
                curve = rows[error][run]
                axes.plot(
                    curve.index, curve, marker=look.marker, markersize=3, linewidth=1, **look.line
                )
            axes.set_title(error, loc="left")
            axes.set_xlabel("IoU threshold")
            axes.set_ylabel("dAP (AP points)")
            axes.set_xticks(curve.index[::2])
            axes.set_ylim(bottom=0)
            horizontal_grid(axes)
        legend(figure, looks)
    return figure
