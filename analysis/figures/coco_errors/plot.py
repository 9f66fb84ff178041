"""Pictures of COCO's error breakdown, from its tables: bars, curves, and marks by category."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.coco_errors.compute import (
    OVERALL,
    PARTS,
    defined_parts,
    first_category,
    seed_means,
)
from analysis.figures.coco_errors.plot_curves import (
    AREA_NAMES,
    FILLS,
    LABEL_LENGTH,
    MATCHED50,
    MATCHED75,
    SMALL,
    draw_legend,
    most_lines,
    plot_areas,
    plot_curves,
    set_unit_limits,
    wrapped,
)
from analysis.plotting.style import QUIET, STYLE, WIDTH, Look, legend, legend_height
from kd.common.lettering import legible

Looks = Mapping[str, Look]

DARK = ("#225588", "#AA3377", "#4D4D4D")
"""Colors with white numbers on them."""
BAR_HEIGHT, THIN_BAR_HEIGHT, CATEGORY_HEIGHT = 0.2, 0.15, 0.08
"""Height of a run's bar, and of its mark in the line of a category, in inches."""
LEAST_STRIP_HEIGHT = 0.95
"""Height that the name of a range of areas needs, in inches."""
PAGE_HEIGHT = 9.5
NUMBER_WIDTH = 0.22
"""Width of a number in a bar, in inches."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame], looks: Looks, area: str, categories: Sequence[str]
) -> dict[str, Figure]:
    """Return the pictures of the tables of ``compute_tables``, by name.

    Curves and ``categories`` are drawn for one range of areas. The curves of the first category
    that has some, or of all, are drawn for each range too.
    """
    numbers, curves = tables["coco_errors"], tables["coco_errors-curves"]
    return {
        "coco_errors-areas": plot_areas(curves, numbers, first_category(curves)),
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

    The parts are means over all categories in AP points, with a sum of 100. Of an odd number of
    panels the first has the width of two.
    """
    overall = seed_means(numbers[numbers["category"] == OVERALL])
    areas, runs = _defined_areas(overall), list(overall["run"].unique())
    wide = [areas[0]] if len(areas) % 2 else []
    rest = areas[len(wide) :]
    mosaic: list[Any] = [[area, area] for area in wide]
    mosaic += [list(pair) for pair in zip(rest[::2], rest[1::2], strict=True)]
    with rc_context(STYLE):
        height = (BAR_HEIGHT * _label_lines(runs) + 0.55) * len(mosaic) + 0.75
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = figure.subplot_mosaic(mosaic, sharey=True)
        for area in areas:
            axes = panels[area]
            axes.set_title(AREA_NAMES[area], loc="left")
            width = WIDTH - 1 if area in wide else (WIDTH - 1) / 2
            lines = overall[overall["area"] == area]
            _draw_stack(axes, lines, runs, 100 * NUMBER_WIDTH / width)
            at_left = area in {row[0] for row in mosaic}
            axes.tick_params(axis="y", length=0, labelleft=at_left)
        figure.supxlabel("AP points (mean over categories)", fontsize=8)
        names = [MATCHED75, MATCHED50, *defined_parts(overall)]
        draw_legend(figure, {name: _title(name) for name in names})
    return figure


def _draw_stack(axes: Axes, lines: pd.DataFrame, runs: Sequence[str], number_width: float) -> None:
    """Draw a bar for each run; ``number_width`` is that of a number in AP points.

    The last part, which is often narrow, has its number beside the bar.
    """
    matched = {MATCHED75: lines["C75"], MATCHED50: lines["C50"] - lines["C75"]}
    parts = {**matched, **{part: lines[part].fillna(0) for part in PARTS}}
    start = pd.Series(0.0, lines.index)
    defined = lines["C50"].notna()
    for name, width in parts.items():
        color = FILLS[name]
        axes.barh(
            range(len(runs)), width, 0.78, left=start, color=color, edgecolor="white", linewidth=0.6
        )
        for place, (left, value) in enumerate(zip(start, width, strict=True)):
            if name != PARTS[-1] and value >= number_width:
                axes.text(
                    left + value / 2, place, f"{value:.1f}", ha="center", va="center",
                    fontsize=SMALL, color="white" if color in DARK else "black",
                )  # fmt: skip
        start = start + width
    for place, (is_defined, missed) in enumerate(zip(defined, lines[PARTS[-1]], strict=True)):
        if is_defined:
            axes.annotate(
                f"{missed:.1f}", (100, place), (2, 0), textcoords="offset points",
                va="center", fontsize=SMALL, color=FILLS[PARTS[-1]], annotation_clip=False,
            )  # fmt: skip
        else:
            axes.text(1, place, "no object", va="center", fontsize=7, color=QUIET)
    axes.set_yticks(range(len(runs)), [wrapped(run) for run in runs])
    axes.set_xlim(0, 100)
    axes.set_ylim(len(runs) - 0.5, -0.5)


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
        for axes in grid.flat:
            axes.tick_params(axis="x", labelsize=SMALL, labelbottom=True)
        whiskers = "; whiskers: one std over the seeds" if std["C50"].notna().any() else ""
        figure.supxlabel(f"AP points (mean over categories{whiskers})", fontsize=8)
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
            textcoords="offset points", va="center", fontsize=SMALL,
        )  # fmt: skip
    axes.set_yticks(range(len(looks)), [wrapped(run) for run in looks], fontsize=6.5)
    spare = max(0.0, LEAST_STRIP_HEIGHT / THIN_BAR_HEIGHT - _label_lines(looks)) / 4
    axes.set_ylim(len(looks) - 0.4 + spare, -0.6 - spare)
    axes.tick_params(axis="y", length=0)


def plot_precision(curves: pd.DataFrame, area: str, looks: Looks) -> Figure:
    """Return panels at IoU 0.50 and 0.75 for each category, with a curve and its AP for each run.

    The names beside a panel are in the order of AP.
    """
    selected = curves[curves["area"] == area]
    categories = list(selected["category"].unique())
    with rc_context(STYLE):
        size = (WIDTH, max(2.2, 0.15 * len(looks) + 0.4) * len(categories) + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(categories), 2, squeeze=False, sharex=True, sharey=True)
        for strip, category in zip(grid, categories, strict=True):
            lines = selected[selected["category"] == category]
            for axes, curve, iou in zip(strip, ("C50", "C75"), ("0.50", "0.75"), strict=True):
                _draw_curve_of_each_run(axes, lines, curve, looks)
                title = "All categories" if category == OVERALL else legible(category)
                axes.set_title(wrapped(f"{title}, IoU {iou}"), fontsize=8, loc="left")
                axes.tick_params(labelleft=True, labelbottom=True)
                set_unit_limits(axes)
            strip[0].set_ylabel("Precision")
        figure.supxlabel(f"Recall ({AREA_NAMES[area].lower()})", fontsize=8)
    return figure


def _draw_curve_of_each_run(axes: Axes, lines: pd.DataFrame, curve: str, looks: Looks) -> None:
    """Draw a curve for each run, and beside the panel the names in the order of their AP."""
    handles = {}
    for run, look in looks.items():
        values = lines[lines["run"] == run]
        ap = 100 * values[curve].mean()
        (handle,) = axes.plot(
            values["recall"], values[curve], label=run, linewidth=1, clip_on=False, **look.line
        )
        handles[run] = (ap, handle)
    ordered = sorted(handles, key=lambda run: -handles[run][0])
    axes.legend(
        [handles[run][1] for run in ordered],
        ["undefined" if math.isnan(handles[run][0]) else f"{handles[run][0]:.1f} {legible(run)}"
         for run in ordered],
        loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=7, handlelength=1.2,
        title=f"AP{curve[1:]}", title_fontsize=7, alignment="left",
    )  # fmt: skip


def plot_categories(
    numbers: pd.DataFrame, area: str, looks: Looks, categories: Sequence[str]
) -> Figure:
    """Return a line for each category: AP50 and the parts, in AP points, with a mark for each run.

    Categories are sorted by falling AP50 of the first run; those without objects are last. The
    marks of a category are below each other, in the order of the runs, with one std over several
    seeds.
    """
    rows = numbers[(numbers["area"] == area) & numbers["category"].isin(categories)]
    mean = seed_means(rows)
    std = rows.groupby(["run", "category"], sort=False).std(numeric_only=True)
    first = mean[mean["run"] == next(iter(looks))].set_index("category")["C50"]
    order = [*first.sort_values(ascending=False, na_position="last", kind="stable").index]
    columns = ["C50", *defined_parts(mean)]
    line_height = max(0.17, CATEGORY_HEIGHT * len(looks) + 0.06)
    line_height = min(line_height, max(PAGE_HEIGHT / max(len(order), 1), 0.13))
    with rc_context(STYLE):
        height = len(order) * line_height + 0.9 + legend_height(looks)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
        for axes, column in zip(grid, columns, strict=True):
            for number, (run, look) in enumerate(looks.items()):
                values = mean[mean["run"] == run].set_index("category")[column].reindex(order)
                offset = 0.8 * ((number + 0.5) / len(looks) - 0.5)
                axes.errorbar(
                    values, [place + offset for place in range(len(order))],
                    xerr=std.loc[run][column].reindex(order).fillna(0), label=run, markersize=3,
                    markeredgewidth=0, elinewidth=0.7, **look.point,
                )  # fmt: skip
            axes.set_title(_title(column), fontsize=8, loc="left")
            highest = max(1.0, mean[column].max())  # in this order, NaN gives 1
            axes.set_xlim(-0.05 * highest, 1.08 * highest)
            axes.tick_params(axis="x", labelsize=SMALL)
            axes.tick_params(axis="y", length=0)
            for place in range(0, len(order), 2):
                axes.axhspan(place - 0.5, place + 0.5, color="0.95", linewidth=0, zorder=0)
        size = 7 if line_height >= 0.15 else 6
        grid[0].set_yticks(range(len(order)), map(legible, order), fontsize=size)
        grid[0].set_ylim(len(order) - 0.5, -0.5)
        bars = "; bars: one std over the seeds" if std["C50"].notna().any() else ""
        figure.supxlabel(f"AP points ({AREA_NAMES[area].lower()}{bars})", fontsize=8)
        legend(figure, looks, lines=False)
    return figure


def _title(name: str) -> str:
    return "AP50" if name == "C50" else name[0].upper() + name[1:]


def _label_lines(runs: Collection[str]) -> int:
    """Return the lines of text that the names of all runs need below each other."""
    return len(runs) * most_lines(runs, LABEL_LENGTH)
