"""Pictures of stacked precision-recall curves, and what all pictures of the breakdown share."""

import math
import textwrap
from collections.abc import Collection, Mapping

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.coco_errors.compute import CURVES, OVERALL
from analysis.plotting.panels import columns_of
from analysis.plotting.style import QUIET, STYLE, WIDTH
from kd.common.lettering import legible

MATCHED75, MATCHED50 = "AP75", "AP50 less AP75"
FILLS = {
    MATCHED75: "#225588",
    MATCHED50: "#99CCEE",
    "localization": "#CC8800",
    "similar class": "#EEBBDD",
    "other class": "#AA3377",
    "background": "#F4A58A",
    "missed": "#4D4D4D",
}
"""Color of each part; neighbors also differ in gray print."""
RULES = {
    "C75": "matched at IoU 0.75",
    "C50": "matched at IoU 0.50",
    "Loc": "localization",
    "Sim": "similar class",
    "Oth": "other class",
    "BG": "background",
    "FN": "missed",
}
"""Curves, and what lies between each and the one before it."""
AREA_NAMES = {
    "all": "All areas",
    "small": "Small (to 32² px²)",
    "medium": "Medium (32² to 96² px²)",
    "large": "Large (from 96² px²)",
}
SMALL = 6.5
"""Points of the numbers in panels."""
COLUMNS, COLUMNS_BY_CATEGORY = 5, 6
"""Most panels of curves in a row, for one category and for several."""
LABEL_LENGTH, TITLES_LENGTH = 24, 90
"""Characters of a run's name in a line, and of the titles of a row of panels."""
AREA_PANEL_HEIGHT = 1.25
"""Height of a panel with its list of APs, in inches."""
ROW_LENGTH = 14
"""Characters of a run's name in a line beside its row, which is as high as a panel."""


def plot_curves(curves: pd.DataFrame, area: str) -> Figure:
    """Return a panel for each run and category of ``curves``: stacked curves and their AP."""
    selected = curves[curves["area"] == area]
    categories, runs = list(selected["category"].unique()), list(selected["run"].unique())
    most = COLUMNS if len(categories) == 1 else COLUMNS_BY_CATEGORY
    across = columns_of(len(runs), 3, most)
    rows = math.ceil(len(runs) / across)
    down = rows * len(categories)
    with rc_context(STYLE):
        width = WIDTH / max(across, 4)
        titles = 0.14 * (most_lines(runs, TITLES_LENGTH // most) - 1)
        size = (width * max(across, 3), (0.9 * width + 0.45 + titles) * down + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for number, category in enumerate(categories):
            strip = grid[number * rows : (number + 1) * rows].ravel()
            lines = selected[selected["category"] == category]
            for axes, run in zip(strip, runs, strict=False):
                run_lines = lines[lines["run"] == run]
                fill_curves(axes, run_lines)
                axes.set_title(wrapped(run, TITLES_LENGTH // most), fontsize=8, loc="left")
                axes.tick_params(labelbottom=True, labelsize=7)
                axes.set_xlabel(_describe_areas(run_lines), fontsize=SMALL)
            for axes in strip[:: len(grid[0])]:
                axes.set_ylabel(
                    wrapped(f"{legible(category)}\nPrecision" if categories[1:] else "Precision")
                )
            for axes in strip[len(runs) :]:
                axes.remove()
        figure.supxlabel(f"Recall ({AREA_NAMES[area].lower()})", fontsize=8)
        defined = ["C75", "C50", *(c for c in CURVES[2:] if selected[c].notna().any())]
        fill_of = dict(zip(CURVES, FILLS, strict=True))
        draw_legend(figure, {fill_of[c]: f"{c}: {RULES[c]}" for c in defined})
    return figure


def _describe_areas(lines: pd.DataFrame) -> str:
    """Return the AP of each curve, the area under it in points, two in a line."""
    areas = 100 * lines[list(CURVES[:-1])].mean().dropna()
    names = [f"{curve} {value:.1f}" for curve, value in areas.items()]
    return "\n".join("   ".join(names[place : place + 2]) for place in range(0, len(names), 2))


def fill_curves(axes: Axes, lines: pd.DataFrame) -> None:
    """Draw the curves of a run in a panel, with the area between two curves filled."""
    lower = pd.Series(0.0, lines.index)
    for curve, name in zip(CURVES, FILLS, strict=True):
        if lines[curve].isna().all():
            continue
        axes.fill_between(lines["recall"], lower, lines[curve], color=FILLS[name], linewidth=0)
        axes.plot(lines["recall"], lines[curve], color="black", linewidth=0.5)
        lower = lines[curve]
    if lines["FN"].isna().all():
        axes.text(0.5, 0.5, "no object", ha="center", fontsize=7, color=QUIET)
    set_unit_limits(axes)


def set_unit_limits(axes: Axes) -> None:
    """Let both axes of a panel range from 0 to 1."""
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def plot_areas(curves: pd.DataFrame, numbers: pd.DataFrame, category: str) -> Figure:
    """Return a row of panels for each run, one for each range of areas: stacked curves and APs.

    ``curves`` and ``numbers`` are the tables of ``compute_tables``. The panels are of one category,
    and of the ranges in which it has objects, or of all if it has none.
    """
    lines = curves[curves["category"] == category]
    runs = list(lines["run"].unique())
    counts = numbers[numbers["category"] == category].groupby("area", sort=False)["objects"].first()
    areas = list(counts.index[counts > 0]) or list(counts.index)
    with rc_context(STYLE):
        size = (WIDTH, AREA_PANEL_HEIGHT * len(runs) + 0.85)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(runs), len(areas), squeeze=False, sharex=True, sharey=True)
        for strip, run in zip(grid, runs, strict=True):
            strip[0].set_ylabel(wrapped(run, ROW_LENGTH), fontweight="bold")
            for axes, area in zip(strip, areas, strict=True):
                panel = lines[(lines["run"] == run) & (lines["area"] == area)]
                fill_curves(axes, panel)
                _list_aps(axes, panel)
                axes.tick_params(labelsize=SMALL)
        for axes, area in zip(grid[0], areas, strict=True):
            axes.set_title(f"{AREA_NAMES[area]}\n{_count(counts[area])}", fontsize=7, loc="left")
        title = OVERALL if category == OVERALL else f"category {legible(category)}"
        figure.supxlabel(f"Recall ({title})", fontsize=8)
        figure.supylabel("Precision", fontsize=8)
        defined = [curve for curve in CURVES if lines[curve].notna().any()]
        fill_of = dict(zip(CURVES, FILLS, strict=True))
        draw_legend(figure, {fill_of[curve]: f"{curve}: {RULES[curve]}" for curve in defined})
    return figure


def _count(objects: float) -> str:
    return "1 object" if objects == 1 else f"{objects:,.0f} objects"


def _list_aps(axes: Axes, lines: pd.DataFrame) -> None:
    """Write the AP of each curve in points beside a panel, the most tolerant rule first."""
    aps = 100 * lines[list(CURVES)].mean().dropna()
    fill_of = dict(zip(CURVES, FILLS, strict=True))
    axes.legend(
        handles=[Patch(color=FILLS[fill_of[curve]], label=f"{aps[curve]:.1f} {curve}")
                 for curve in reversed(aps.index)],
        loc="center left", bbox_to_anchor=(0.98, 0.5), frameon=False, fontsize=6,
        handlelength=0.7, handleheight=0.7, handletextpad=0.3, labelspacing=0.25,
        title="AP" if len(aps) else None, title_fontsize=6, alignment="left",
    )  # fmt: skip


def draw_legend(figure: Figure, labels: Mapping[str, str]) -> None:
    """Draw the legend of the fillings of bars and curves above the panels."""
    figure.legend(
        handles=[Patch(label=label, color=FILLS[name]) for name, label in labels.items()],
        loc="outside upper center",
        ncols=4 if figure.get_figwidth() > WIDTH / 2 else 2,
        frameon=False,
    )


def most_lines(runs: Collection[str], length: int) -> int:
    """Return the most lines of text that a run's name needs, of ``length`` characters each."""
    return max(wrapped(run, length).count("\n") + 1 for run in runs)


def wrapped(text: str, length: int = LABEL_LENGTH) -> str:
    """Return a text in lines of ``length`` characters at most."""
    return "\n".join(textwrap.fill(line, length) for line in text.split("\n"))
