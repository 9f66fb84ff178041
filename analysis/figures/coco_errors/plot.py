"""Pictures of COCO's error breakdown, from its tables: bars, curves, and marks by category."""

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.coco_errors.compute import CURVES, OVERALL, PARTS, defined_parts, seed_means
from analysis.plotting.lettering import legible
from analysis.plotting.panels import horizontal_grid, panel_grid
from analysis.plotting.style import QUIET, STYLE, WIDTH, Look, legend, legend_height

Looks = Mapping[str, Look]

MATCHED75, MATCHED50 = "matched at IoU 0.75", "matched at IoU 0.50"
# Colors of Okabe and Ito, with hatching that distinguishes them in gray print.
FILLS: dict[str, dict[str, Any]] = {
    MATCHED75: {"facecolor": "1.0"},
    MATCHED50: {"facecolor": "0.85"},
    "localization": {"facecolor": "#F0E442", "hatch": "////"},
    "similar class": {"facecolor": "#CC79A7", "hatch": "...."},
    "other class": {"facecolor": "#56B4E9", "hatch": "\\\\\\\\"},
    "background": {"facecolor": "#D55E00", "hatch": "xxxx"},
    "missed": {"facecolor": "0.4"},
}
EDGE: dict[str, Any] = {"edgecolor": "black", "linewidth": 0.4}
AREA_NAMES = {
    "all": "All areas",
    "small": "Small (to 32² px²)",
    "medium": "Medium (32² to 96² px²)",
    "large": "Large (from 96² px²)",
}
BAR_HEIGHT, THIN_BAR_HEIGHT = 0.2, 0.15
"""Height of a run's bar, in inches."""
LEAST_STRIP_HEIGHT = 0.95
"""Height that the name of a range of areas needs, in inches."""
COLUMNS, COLUMNS_BY_CATEGORY = 4, 6
"""Panels of curves in a row, for one category and for several."""
LABEL_LENGTH, TITLES_LENGTH = 24, 90
"""Characters of a run's name in a line, and of the titles of a row of panels."""
NARROWEST = 6.0
"""AP points of the narrowest part with a number in it."""
MARKER_DISTANCE = 12
"""Recalls from one marker of a curve to the next."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame], looks: Looks, area: str, categories: Sequence[str]
) -> dict[str, Figure]:
    """Return the pictures of the tables of ``compute_tables``, by name.

    Curves and ``categories`` are drawn for one range of areas.
    """
    numbers, curves = tables["coco_errors"], tables["coco_errors-curves"]
    return {
        "coco_errors": plot(numbers),
        "coco_errors-parts": plot_parts(numbers, looks),
        "coco_errors-curves": plot_curves(curves, area),
        "coco_errors-precision": plot_precision(curves, area, looks),
        "coco_errors-by-category": plot_categories(numbers, area, looks, categories),
    }


def _defined_areas(overall: pd.DataFrame) -> list[str]:
    """Return the ranges of areas that contain an object, or all if none does."""
    defined = overall[overall["C50"].notna()]
    return list((overall if defined.empty else defined)["area"].unique())


def plot(numbers: pd.DataFrame) -> Figure:
    """Return a panel for each range of areas with a bar for each run: matched parts, then losses.

    The parts are means over all categories in AP points, with a sum of 100.
    """
    overall = seed_means(numbers[numbers["category"] == OVERALL])
    areas, runs = _defined_areas(overall), list(overall["run"].unique())
    across = min(len(areas), 2)
    with rc_context(STYLE):
        row_height = BAR_HEIGHT * _label_lines(runs) + 0.55
        figure, panels = panel_grid(len(areas), 2, row_height, 0.75, sharex=True, sharey=True)
        for axes, area in zip(panels, areas, strict=True):
            axes.set_title(AREA_NAMES[area], loc="left")
            _draw_stack(axes, overall[overall["area"] == area], runs)
        for axes in panels[len(areas) - across :]:
            axes.tick_params(axis="x", labelbottom=True)
        figure.supxlabel("AP points (mean over categories)", fontsize=8)
        _draw_legend(figure, overall)
    return figure


def _draw_stack(axes: Axes, lines: pd.DataFrame, runs: Sequence[str]) -> None:
    matched = {MATCHED75: lines["C75"], MATCHED50: lines["C50"] - lines["C75"]}
    parts = {**matched, **{part: lines[part].fillna(0) for part in PARTS}}
    start = pd.Series(0.0, lines.index)
    defined = lines["C50"].notna()
    for name, width in parts.items():
        axes.barh(range(len(runs)), width, 0.78, left=start, **FILLS[name], **EDGE)
        for place, (left, value) in enumerate(zip(start, width, strict=True)):
            if value >= NARROWEST:
                axes.text(
                    left + value / 2, place, f"{value:.1f}", ha="center", va="center", fontsize=6,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
                )  # fmt: skip
        start = start + width
    for place in (place for place, is_defined in enumerate(defined) if not is_defined):
        axes.text(1, place, "no object", va="center", fontsize=7, color=QUIET)
    axes.set_yticks(range(len(runs)), [_wrapped(run) for run in runs])
    axes.set_xlim(0, 100)
    axes.set_ylim(len(runs) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def plot_parts(numbers: pd.DataFrame, looks: Looks) -> Figure:
    """Return a panel for each part and range of areas, with a bar for each run.

    Bars are means over all categories in AP points; whiskers are one std over several seeds.
    """
    overall = numbers[numbers["category"] == OVERALL]
    mean, std = (
        seed_means(overall),
        overall.groupby(["run", "area"], sort=False).std(numeric_only=True),
    )
    areas, columns = _defined_areas(overall), ["C50", *defined_parts(overall)]
    with rc_context(STYLE):
        strip_height = max(THIN_BAR_HEIGHT * _label_lines(looks) + 0.2, LEAST_STRIP_HEIGHT)
        height = len(areas) * strip_height + 0.7
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(len(areas), len(columns), squeeze=False, sharex="col", sharey=True)
        for strip, area in zip(grid, areas, strict=True):
            lines = mean[mean["area"] == area].set_index("run")
            for axes, column in zip(strip, columns, strict=True):
                _draw_bars(axes, lines[column], std[column].xs(area, level="area"), looks)
            strip[0].set_ylabel(AREA_NAMES[area].replace(" (", "\n("), fontsize=7)
        for axes, column in zip(grid[0], columns, strict=True):
            axes.set_title(_title(column), fontsize=8, loc="left")
        for axes in grid[-1]:
            axes.set_xlim(0, max(axes.get_xlim()[1], 1.0) * 1.25)  # room for the numbers
        figure.supxlabel("AP points (mean over categories)", fontsize=8)
    return figure


def _draw_bars(axes: Axes, values: pd.Series, std: pd.Series, looks: Looks) -> None:
    for place, (run, look) in enumerate(looks.items()):
        value = values[run]
        if math.isnan(value):
            continue
        axes.barh(place, value, 0.78, color=look.color)
        whisker = 0.0 if math.isnan(std[run]) else std[run]
        if whisker:
            axes.errorbar(value, place, xerr=whisker, color="black", elinewidth=0.7, capsize=1.5)
        axes.annotate(
            f"{value:.1f}", (max(value, 0) + whisker, place), (2, 0),
            textcoords="offset points", va="center", fontsize=5.5,
        )  # fmt: skip
    axes.set_yticks(range(len(looks)), [_wrapped(run) for run in looks], fontsize=6.5)
    spare = max(0.0, LEAST_STRIP_HEIGHT / THIN_BAR_HEIGHT - _label_lines(looks)) / 4
    axes.set_ylim(len(looks) - 0.4 + spare, -0.6 - spare)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=6.5)


def plot_curves(curves: pd.DataFrame, area: str) -> Figure:
    """Return a panel for each run and category of ``curves`` with its stacked curves."""
    selected = curves[curves["area"] == area]
    categories, runs = list(selected["category"].unique()), list(selected["run"].unique())
    most = COLUMNS if len(categories) == 1 else COLUMNS_BY_CATEGORY
    rows = math.ceil(len(runs) / most)
    across = math.ceil(len(runs) / rows)
    down = rows * len(categories)
    with rc_context(STYLE):
        width = WIDTH / max(across, COLUMNS)
        titles = 0.14 * (_most_lines(runs, TITLES_LENGTH // most) - 1)
        size = (width * max(across, 2), (0.9 * width + 0.05 + titles) * down + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for number, category in enumerate(categories):
            strip = grid[number * rows : (number + 1) * rows].ravel()
            lines = selected[selected["category"] == category]
            for axes, run in zip(strip, runs, strict=False):
                _fill_curves(axes, lines[lines["run"] == run])
                axes.set_title(_wrapped(run, TITLES_LENGTH // most), fontsize=8, loc="left")
            for axes in strip[:: len(grid[0])]:
                axes.set_ylabel(
                    _wrapped(f"{legible(category)}\nprecision" if categories[1:] else "precision")
                )
            for axes in strip[len(runs) :]:
                axes.remove()
        for axes in strip[: len(runs)][-across:]:
            axes.tick_params(axis="x", labelbottom=True)
        figure.supxlabel(f"recall ({AREA_NAMES[area].lower()})", fontsize=8)
        _draw_legend(figure, selected)
    return figure


def _fill_curves(axes: Axes, lines: pd.DataFrame) -> None:
    lower = pd.Series(0.0, lines.index)
    for curve, name in zip(CURVES, FILLS, strict=True):
        if lines[curve].isna().all():
            continue
        style = {**FILLS[name], "edgecolor": "0.3", "linewidth": 0}
        axes.fill_between(lines["recall"], lower, lines[curve], **style)
        axes.plot(lines["recall"], lines[curve], color="black", linewidth=0.5)
        lower = lines[curve]
    if lines["FN"].isna().all():
        axes.text(0.5, 0.5, "no object", ha="center", fontsize=7, color=QUIET)
    _set_unit_limits(axes)


def _set_unit_limits(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def plot_precision(curves: pd.DataFrame, area: str, looks: Looks) -> Figure:
    """Return panels at IoU 0.50 and 0.75 for each category, with a curve for each run."""
    selected = curves[curves["area"] == area]
    categories = list(selected["category"].unique())
    with rc_context(STYLE):
        size = (WIDTH, 2.2 * len(categories) + 0.3 + legend_height(looks))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(categories), 2, squeeze=False, sharex=True, sharey=True)
        for strip, category in zip(grid, categories, strict=True):
            lines = selected[selected["category"] == category]
            for axes, curve, iou in zip(strip, ("C50", "C75"), ("0.50", "0.75"), strict=True):
                for number, (run, look) in enumerate(looks.items()):
                    values = lines[lines["run"] == run]
                    length = int((values[curve] > 0).sum())
                    places = range(3 * number % MARKER_DISTANCE, length, MARKER_DISTANCE)
                    axes.plot(
                        values["recall"], values[curve], label=run, linewidth=1,
                        marker=look.marker, markersize=3.5, markevery=list(places),
                        clip_on=False, **look.line,
                    )  # fmt: skip
                axes.set_title(_wrapped(f"{legible(category)}, IoU {iou}"), fontsize=8, loc="left")
                _set_unit_limits(axes)
            strip[0].set_ylabel("precision")
        figure.supxlabel(f"recall ({AREA_NAMES[area].lower()})", fontsize=8)
        legend(figure, looks)
    return figure


def plot_categories(
    numbers: pd.DataFrame, area: str, looks: Looks, categories: Sequence[str]
) -> Figure:
    """Return a line for each category: AP50 and the parts, in AP points, with a mark for each run.

    Categories are sorted by falling AP50 of the first run; those without objects are last.
    """
    mean = seed_means(numbers[(numbers["area"] == area) & numbers["category"].isin(categories)])
    first = mean[mean["run"] == next(iter(looks))].set_index("category")["C50"]
    order = [*first.sort_values(ascending=False, na_position="last", kind="stable").index]
    columns = ["C50", *defined_parts(mean)]
    size = 7 if len(order) <= 40 else 5.5
    with rc_context(STYLE):
        height = len(order) * (0.024 * size) + 0.9 + legend_height(looks)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
        for axes, column in zip(grid, columns, strict=True):
            for run, look in looks.items():
                values = mean[mean["run"] == run].set_index("category")[column].reindex(order)
                axes.plot(
                    values, range(len(order)), label=run, markersize=3.5, alpha=0.85,
                    markeredgewidth=0, **look.point,
                )  # fmt: skip
            axes.set_title(_title(column), fontsize=8, loc="left")
            highest = max(1.0, mean[column].max())  # in this order, NaN gives 1
            axes.set_xlim(-0.05 * highest, 1.08 * highest)
            axes.tick_params(axis="x", labelsize=6.5)
            axes.tick_params(axis="y", length=0)
            horizontal_grid(axes)
        grid[0].set_yticks(range(len(order)), map(legible, order), fontsize=size)
        grid[0].set_ylim(len(order) - 0.5, -0.5)
        figure.supxlabel(f"AP points ({AREA_NAMES[area].lower()})", fontsize=8)
        legend(figure, looks, lines=False)
    return figure


def _draw_legend(figure: Figure, frame: pd.DataFrame) -> None:
    """Draw the legend of the fillings of bars and curves above the panels."""
    names = [MATCHED75, MATCHED50, *defined_parts(frame)]
    figure.legend(
        handles=[Patch(label=_title(name), **FILLS[name], **EDGE) for name in names],
        loc="outside upper center",
        ncols=4 if figure.get_figwidth() > WIDTH / 2 else 2,
        frameon=False,
    )


def _title(name: str) -> str:
    return "AP50" if name == "C50" else name[0].upper() + name[1:]


def _label_lines(runs: Collection[str]) -> int:
    """Return the lines of text that the names of all runs need below each other."""
    return len(runs) * _most_lines(runs, LABEL_LENGTH)


def _most_lines(runs: Collection[str], length: int) -> int:
    return max(_wrapped(run, length).count("\n") + 1 for run in runs)


def _wrapped(text: str, length: int = LABEL_LENGTH) -> str:
    return "\n".join(textwrap.fill(line, length) for line in text.split("\n"))
