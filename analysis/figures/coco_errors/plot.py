"""How the breakdown of ``analysis.figures.coco_errors.compute`` is drawn; every plot reads its
tables alone.
"""

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.coco_errors.compute import CURVES, OVERALL, PARTS
from analysis.plotting.lettering import legible
from analysis.plotting.style import QUIET, STYLE, WIDTH, Look, legend, legend_height

Looks = Mapping[str, Look]

HIT75, HIT50 = "found at IoU 0.75", "found at IoU 0.50"
# Of Okabe and Ito, in order of lightness but for what is found; hatched for print in grey.
FILLS: dict[str, dict[str, Any]] = {
    HIT75: {"facecolor": "1.0"},
    HIT50: {"facecolor": "0.85"},
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
BAR, THIN_BAR = 0.2, 0.15
"""Inches for one run."""
LEAST_STRIP = 0.95
"""Inches for the name of a range of areas."""
ACROSS, ACROSS_MANY = 4, 6
"""Panels of curves in a row, and where there are several categories."""
LABEL_LENGTH, TITLES_LENGTH = 24, 90
"""Characters of a run's name in a line, and of the titles of a row of panels."""
NARROW = 6.0
"""AP points of a part in which its number has no room."""
APART = 12
"""Recalls from one marker of a curve to the next."""


def means(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers with the seeds averaged."""
    keys = ["run", "area", "category"]
    return numbers.drop(columns="seed").groupby(keys, sort=False).mean().reset_index()


def defined_parts(frame: pd.DataFrame) -> list[str]:
    """Return the parts that are defined, of the numbers or of the curves."""
    return [part for part in PARTS if part != "similar class" or frame["Sim"].notna().any()]


def _found_areas(overall: pd.DataFrame) -> list[str]:
    """Return the ranges of areas in which there is something to find, or else all."""
    defined = overall[overall["C50"].notna()]
    return list((overall if defined.empty else defined)["area"].unique())


def plot(numbers: pd.DataFrame) -> Figure:
    """Return, for each range of areas, a bar for each run: what is found, then why not the rest.

    Means over all categories, in AP points; together they make 100.
    """
    overall = means(numbers[numbers["category"] == OVERALL])
    areas, runs = _found_areas(overall), list(overall["run"].unique())
    across = min(len(areas), 2)
    down = math.ceil(len(areas) / across)
    with rc_context(STYLE):
        height = down * (BAR * _lines(runs) + 0.55) + 0.75
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes, area in zip(grid.flat, areas, strict=False):
            axes.set_title(AREA_NAMES[area], loc="left")
            _stack(axes, overall[overall["area"] == area], runs)
        for axes in grid.flat[len(areas) - across : len(areas)]:
            axes.tick_params(axis="x", labelbottom=True)
        for axes in grid.flat[len(areas) :]:
            axes.remove()
        figure.supxlabel("AP points (mean over categories)", fontsize=8)
        _explain(figure, overall)
    return figure


def _stack(axes: Axes, lines: pd.DataFrame, runs: Sequence[str]) -> None:
    found = {HIT75: lines["C75"], HIT50: lines["C50"] - lines["C75"]}
    parts = {**found, **{part: lines[part].fillna(0) for part in PARTS}}
    start = pd.Series(0.0, lines.index)
    defined = lines["C50"].notna()
    for name, width in parts.items():
        axes.barh(range(len(runs)), width, 0.78, left=start, **FILLS[name], **EDGE)
        for place, (left, value) in enumerate(zip(start, width, strict=True)):
            if value >= NARROW:
                axes.text(
                    left + value / 2, place, f"{value:.1f}", ha="center", va="center", fontsize=6,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
                )  # fmt: skip
        start = start + width
    for place in (place for place, known in enumerate(defined) if not known):
        axes.text(1, place, "nothing to find", va="center", fontsize=7, color=QUIET)
    axes.set_yticks(range(len(runs)), [_wrapped(run) for run in runs])
    axes.set_xlim(0, 100)
    axes.set_ylim(len(runs) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def plot_parts(numbers: pd.DataFrame, looks: Looks) -> Figure:
    """Return a panel for each part and range of areas, in it a bar for each run.

    Means over all categories in AP points; whiskers of one std where there are several seeds.
    """
    overall = numbers[numbers["category"] == OVERALL]
    mean, std = means(overall), overall.groupby(["run", "area"], sort=False).std(numeric_only=True)
    areas, columns = _found_areas(overall), ["C50", *defined_parts(overall)]
    with rc_context(STYLE):
        height = len(areas) * max(THIN_BAR * _lines(looks) + 0.2, LEAST_STRIP) + 0.7
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(len(areas), len(columns), squeeze=False, sharex="col", sharey=True)
        for strip, area in zip(grid, areas, strict=True):
            lines = mean[mean["area"] == area].set_index("run")
            for axes, column in zip(strip, columns, strict=True):
                _bars(axes, lines[column], std[column].xs(area, level="area"), looks)
            strip[0].set_ylabel(AREA_NAMES[area].replace(" (", "\n("), fontsize=7)
        for axes, column in zip(grid[0], columns, strict=True):
            axes.set_title(_title(column), fontsize=8, loc="left")
        for axes in grid[-1]:
            axes.set_xlim(0, max(axes.get_xlim()[1], 1.0) * 1.25)  # room for the numbers
        figure.supxlabel("AP points (mean over categories)", fontsize=8)
    return figure


def _bars(axes: Axes, values: pd.Series, spread: pd.Series, looks: Looks) -> None:
    for place, (run, look) in enumerate(looks.items()):
        value, reach = values[run], spread[run]
        if math.isnan(value):
            continue
        axes.barh(place, value, 0.78, linewidth=0, **look.bar)
        whisker = 0.0 if math.isnan(reach) else reach
        if whisker:
            axes.errorbar(value, place, xerr=whisker, color="black", elinewidth=0.7, capsize=1.5)
        axes.annotate(
            f"{value:.1f}", (max(value, 0) + whisker, place), (2, 0),
            textcoords="offset points", va="center", fontsize=5.5,
        )  # fmt: skip
    axes.set_yticks(range(len(looks)), [_wrapped(run) for run in looks], fontsize=6.5)
    spare = max(0.0, LEAST_STRIP / THIN_BAR - _lines(looks)) / 4
    axes.set_ylim(len(looks) - 0.4 + spare, -0.6 - spare)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=6.5)


def plot_curves(curves: pd.DataFrame, area: str) -> Figure:
    """Return for each run, and each category that is listed, its curves one above the other."""
    shown = curves[curves["area"] == area]
    categories, runs = list(shown["category"].unique()), list(shown["run"].unique())
    most = ACROSS if len(categories) == 1 else ACROSS_MANY
    rows = math.ceil(len(runs) / most)
    across = math.ceil(len(runs) / rows)
    down = rows * len(categories)
    with rc_context(STYLE):
        width = WIDTH / max(across, ACROSS)
        titles = 0.14 * (_most_lines(runs, TITLES_LENGTH // most) - 1)
        size = (width * max(across, 2), (0.9 * width + 0.05 + titles) * down + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for number, category in enumerate(categories):
            strip = grid[number * rows : (number + 1) * rows].ravel()
            lines = shown[shown["category"] == category]
            for axes, run in zip(strip, runs, strict=False):
                _fill(axes, lines[lines["run"] == run])
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
        _explain(figure, shown)
    return figure


def _fill(axes: Axes, lines: pd.DataFrame) -> None:
    lower = pd.Series(0.0, lines.index)
    for curve, name in zip(CURVES, FILLS, strict=True):
        if lines[curve].isna().all():
            continue
        style = {**FILLS[name], "edgecolor": "0.3", "linewidth": 0}
        axes.fill_between(lines["recall"], lower, lines[curve], **style)
        axes.plot(lines["recall"], lines[curve], color="black", linewidth=0.5)
        lower = lines[curve]
    if lines["FN"].isna().all():
        axes.text(0.5, 0.5, "nothing to find", ha="center", fontsize=7, color=QUIET)
    _unit_square(axes)


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def plot_precision(curves: pd.DataFrame, area: str, looks: Looks) -> Figure:
    """Return the runs' curves over each other at IoU 0.50 and 0.75, for each listed category."""
    shown = curves[curves["area"] == area]
    categories = list(shown["category"].unique())
    with rc_context(STYLE):
        size = (WIDTH, 2.2 * len(categories) + 0.3 + legend_height(looks))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(categories), 2, squeeze=False, sharex=True, sharey=True)
        for strip, category in zip(grid, categories, strict=True):
            lines = shown[shown["category"] == category]
            for axes, curve, iou in zip(strip, ("C50", "C75"), ("0.50", "0.75"), strict=True):
                for number, (run, look) in enumerate(looks.items()):
                    of_run = lines[lines["run"] == run]
                    reached = int((of_run[curve] > 0).sum())
                    marked = range(3 * number % APART, reached, APART)
                    axes.plot(
                        of_run["recall"], of_run[curve], label=run, linewidth=1, marker=look.marker,
                        markersize=3.5, markevery=list(marked), clip_on=False, **look.line,
                    )  # fmt: skip
                axes.set_title(_wrapped(f"{legible(category)}, IoU {iou}"), fontsize=8, loc="left")
                _unit_square(axes)
            strip[0].set_ylabel("precision")
        figure.supxlabel(f"recall ({AREA_NAMES[area].lower()})", fontsize=8)
        legend(figure, looks)
    return figure


def plot_categories(
    numbers: pd.DataFrame, area: str, looks: Looks, categories: Sequence[str]
) -> Figure:
    """Return a line for each category: AP50 and the parts, in AP points, a mark for each run.

    Categories by falling AP50 of the first run; those without objects come last, empty.
    """
    mean = means(numbers[(numbers["area"] == area) & numbers["category"].isin(categories)])
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
            highest = max(1.0, mean[column].max())  # in this order 1 where there is no value
            axes.set_xlim(-0.05 * highest, 1.08 * highest)
            axes.tick_params(axis="x", labelsize=6.5)
            axes.tick_params(axis="y", length=0)
            axes.grid(axis="y", color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
        grid[0].set_yticks(range(len(order)), map(legible, order), fontsize=size)
        grid[0].set_ylim(len(order) - 0.5, -0.5)
        figure.supxlabel(f"AP points ({AREA_NAMES[area].lower()})", fontsize=8)
        legend(figure, looks, lines=False)
    return figure


def _explain(figure: Figure, frame: pd.DataFrame) -> None:
    """Name the fillings of bars and curves above the panels."""
    names = [HIT75, HIT50, *defined_parts(frame)]
    figure.legend(
        handles=[Patch(label=_title(name), **FILLS[name], **EDGE) for name in names],
        loc="outside upper center",
        ncols=4 if figure.get_figwidth() > WIDTH / 2 else 2,
        frameon=False,
    )


def _title(name: str) -> str:
    return "AP50" if name == "C50" else name[0].upper() + name[1:]


def _lines(runs: Collection[str]) -> int:
    """Return how many lines of text the names need one below the other."""
    return len(runs) * _most_lines(runs, LABEL_LENGTH)


def _most_lines(runs: Collection[str], length: int) -> int:
    return max(_wrapped(run, length).count("\n") + 1 for run in runs)


def _wrapped(text: str, length: int = LABEL_LENGTH) -> str:
    return "\n".join(textwrap.fill(line, length) for line in text.split("\n"))
