"""How TIDE is drawn, from its tables: costs and differences, shares, and costs over the IoU."""

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

from analysis.figures.tide.compute import ERRORS, MAIN, SPECIAL
from analysis.figures.tide.tables import AVERAGED, IOU50
from analysis.plotting import dots
from analysis.plotting.style import QUIET, STYLE, WIDTH, Look, legend, legend_height

LINE_HEIGHT = 0.2
"""Inches for one run."""
OFFSET = 0.2
"""Of a row: a difference at IoU 0.5 stands that much above its middle, the average below."""
AVERAGE_MARK: dict[str, Any] = {
    "marker": "D", "markersize": 3.2, "mfc": "white", "mec": "black", "mew": 0.7,
}  # fmt: skip
LEAST_REACH = 0.5
"""AP points that an axis of differences shows at least, to either side."""
ROOM = 1.75
"""Of the longest bar: so far an axis of costs goes, to have room for numbers at its end."""
RINGS_A_ROW = 5
RING = WIDTH / RINGS_A_ROW
"""Inches."""
NAMED = 0.07
"""The smallest share whose error is named in its wedge."""
SHADES = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#DDDDDD")
"""Of ``MAIN``, from Tol's muted scheme: neighbours differ in grey too."""
DARK = ("#332288", "#117733", "#CC6677")
SPECIAL_SHADES = ("0.35", "0.7")
CURVES = ("Cls", "Loc")
STEPS = (1, 2, 5, 10)
"""Round numbers, of ticks."""


def means(frame: pd.DataFrame, iou: str) -> pd.DataFrame:
    """Return AP points by run and quantity at one ``iou`` of the summary, means over the seeds."""
    rows = frame[frame["iou"] == iou]
    table = rows.pivot_table("points", "run", "quantity", aggfunc="mean", sort=False)
    return table.reindex(columns=["AP", *ERRORS])


def plot(frame: pd.DataFrame, gaps: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a column for each error and a row for each run: its cost, and how that differs.

    Reads ``tide_tables.summary`` and ``tide_tables.differences``; without these only the costs.
    """
    runs = list(looks)
    with rc_context(STYLE):
        figure, grid = dots.panels(runs, 1 + bool(len(gaps)), len(ERRORS), LINE_HEIGHT)
        _costs(grid[0], frame, looks)
        if len(gaps):
            _differences(grid[1], gaps, looks)
        for axes in grid.flat:
            axes.tick_params(axis="x", labelsize=7)
            axes.xaxis.set_major_formatter("{x:g}")
        figure.legend(handles=_marks(), loc="outside upper right", ncols=2, frameon=False)
    return figure


def _group(error: str) -> list[str]:
    """Return the errors that share an axis with one."""
    return list(MAIN if error in MAIN else SPECIAL)


def _costs(strip: Sequence[Axes], frame: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    at, averaged = means(frame, IOU50), means(frame, AVERAGED)
    for axes, error in zip(strip, ERRORS, strict=True):
        colours = [look.colour for look in looks.values()]
        axes.barh(range(len(looks)), at.loc[list(looks), error], height=0.7, color=colours)
        axes.plot(
            averaged.loc[list(looks), error], range(len(looks)),
            linestyle="none", clip_on=False, **AVERAGE_MARK,
        )  # fmt: skip
        highest = pd.concat([at, averaged])[_group(error)].max().max()
        axes.set_xlim(0, ROOM * highest or 1)
        for row, run in enumerate(looks):
            axes.text(
                1.0, row, f"{at[error][run]:.1f}", transform=axes.get_yaxis_transform(),
                ha="right", va="center", fontsize=6,
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=STEPS))
        axes.set_title(error, loc="left")
    _name(strip, "dAP (AP points)")


def _differences(strip: Sequence[Axes], gaps: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    numbers = gaps.rename(columns={"low": "difference_low", "high": "difference_high"})
    columns = ["difference", "difference_low", "difference_high"]
    for axes, error in zip(strip, ERRORS, strict=True):
        own = numbers[numbers["quantity"] == error].set_index(["iou", "run"])[columns]
        dots.reference(axes, 0.0, "-")
        for iou, offset, marker in ((IOU50, -OFFSET, None), (AVERAGED, OFFSET, "D")):
            rows = own.loc[iou].reindex(list(looks)).rename_axis("run").reset_index()
            dots.points(axes, rows, "difference", looks, offset, marker)
        group = numbers[numbers["quantity"].isin(_group(error))][columns]
        reach = 1.08 * max(group.abs().max().max(), LEAST_REACH)
        axes.set_xlim(-reach, reach)
        axes.set_xticks([-_round(reach), 0, _round(reach)])
        axes.set_title(error, loc="left")
    _name(strip, f"dAP less that of {gaps['baseline'].iloc[0]} (AP points)")


def _round(number: float) -> float:
    """Return the largest round number that is not above a positive one."""
    power = 10.0 ** math.floor(math.log10(number))
    return power * max(step for step in STEPS if step * power <= number)


def _name(strip: Sequence[Axes], text: str) -> None:
    """Write a strip's axis label under its middle, however narrow the panels are."""
    for axes in strip:
        axes.set_xlabel(" ")
    strip[len(strip) // 2].set_xlabel(text, x=0, ha="center").set_in_layout(False)


def _marks() -> list[Line2D]:
    return [
        Line2D([], [], color=QUIET, marker="s", linestyle="none", label="IoU 0.50 (and number)"),
        Line2D([], [], linestyle="none", label="mean over IoU 0.50 to 0.95", **AVERAGE_MARK),
    ]


def plot_shares(frame: pd.DataFrame, labels: Sequence[str]) -> Figure:
    """Return a ring for each run, of what the main errors cost at IoU 0.5, over FP and FN."""
    costs = means(frame, IOU50).T
    across = min(len(labels), RINGS_A_ROW)
    down = -(-len(labels) // across)
    highest = max(costs.loc[list(SPECIAL)].max().max(), 1)
    with rc_context(STYLE):
        size = (max(across, 2) * RING, 2.1 * down + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        grid = GridSpec(2 * down, across, figure, height_ratios=[3.2, 1] * down)
        for place, label in enumerate(labels):
            row, column = divmod(place, across)
            ring = figure.add_subplot(grid[2 * row, column])
            ring.set_title(textwrap.fill(label, 20), fontsize=8)
            _ring(ring, costs[label][list(MAIN)])
            bars = figure.add_subplot(grid[2 * row + 1, column])
            _special(bars, costs[label][list(SPECIAL)], highest, named=column == 0)
            if row == down - 1 or place + across >= len(labels):
                bars.set_xlabel("dAP (AP points)")
        patches = [Patch(facecolor=c, label=e) for c, e in zip(SHADES, MAIN, strict=True)]
        columns = len(MAIN) if across > 2 else len(MAIN) // 2
        figure.legend(handles=patches, loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _ring(axes: Axes, costs: pd.Series) -> None:
    total = costs.sum()
    axes.set_aspect("equal")
    if not total > 0:
        axes.pie([1], colors=["white"], wedgeprops={"width": 0.6, "edgecolor": QUIET})
        axes.text(0, 0, "no error", ha="center", va="center", color=QUIET)
        return
    names = [error if costs[error] >= NAMED * total else "" for error in MAIN]
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
    for text, colour in zip(texts, SHADES, strict=True):
        text.set_color("white" if colour in DARK else "black")


def _special(axes: Axes, costs: pd.Series, highest: float, named: bool) -> None:
    axes.barh(range(len(SPECIAL)), costs, height=0.7, color=SPECIAL_SHADES)
    axes.set_yticks(range(len(SPECIAL)), SPECIAL if named else [""] * len(SPECIAL))
    axes.set_ylim(len(SPECIAL) - 0.5, -0.5)
    axes.set_xlim(0, 1.05 * highest)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=STEPS))


def plot_thresholds(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return what Cls and Loc cost over the IoU that makes a detection correct, as DICOD's Fig. 3.

    Reads ``tide_tables.by_threshold``; lines are means over the seeds.
    """
    rows = frame.groupby(["quantity", "run", "iou"])["points"].mean()
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.3 + legend_height(looks)), layout="constrained")
        for axes, error in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
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
            axes.grid(axis="y", color="0.92", linewidth=0.8)
            axes.set_axisbelow(True)
        legend(figure, looks)
    return figure
