"""Ablations: a figure over the values of a swept setting, with intervals over seeds."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

from analysis.plotting.lettering import legible
from analysis.plotting.style import STYLE, WIDTH, Look, legend, legend_height
from analysis.runs.groups import RunGroup, varying
from analysis.runs.titles import method_name
from analysis.statistics.seeds import POINTS, Metric, mean_std, t_interval
from kd.common.errors import UserError, suggest
from kd.config.library import Library
from kd.evaluation.metrics import Metrics

COLUMNS = ("setting", "row", "value", "mean", "std", "n", "low", "high")
FIGURES = dict.fromkeys(("mean", "std", "low", "high"), float)
PARTS = ("dataset", "schedule", "scale", "detector", "student")
UNSET = "unset"
"""Stands for a setting that a method does not have."""
ACROSS = 3
"""Panels in a row."""
WIDE = 10
"""Largest over smallest value from which on an axis is logarithmic."""
APART, ROOM = 3.0, 20.0
"""Points between the bars of two rows at one value, and that all of them may take."""
LEAST_GAP = 0.06
"""Of the axis; with values closer to each other the ticks are at round numbers."""
LONGEST, SIDE_BY_SIDE = 24, 30
"""Characters of a value's name, and of all of an axis; with more they are cut, and turned."""
MARGIN = 0.06
"""Of the axis, left of the first value and right of the last."""


def choose(groups: Sequence[RunGroup], setting: str | None, library: Library) -> list[str]:
    """Return the swept settings to draw: ``setting``, or all; UserError where there is none.

    ``rm.weight`` is ``weight`` where RM is the whole method; a term of a sum keeps its name.
    """
    found = dict.fromkeys(name for own in _by_method(groups) for name in _names(own))
    names = [name for name in found if rows(groups, name, library)]
    if not names:
        raise UserError(
            "no two of the runs are of one method and differ in one setting alone; give those of "
            "a table with a 'sweep'"
        )
    if setting is not None and setting not in names:
        raise UserError(f"key 'setting': no '{setting}' is swept; {suggest(setting, names)}")
    return names if setting is None else [setting]


def rows(
    groups: Sequence[RunGroup], name: str, library: Library
) -> dict[str, list[tuple[float | str, RunGroup]]]:
    """Return, by its label, each series of values of a setting that differs in nothing else."""
    found = {}
    for own in _by_method(groups):
        if name not in _names(own):
            continue
        series: dict[tuple[str, ...], list[tuple[float | str, RunGroup]]] = {}
        for group in own:
            rest = (*(group.identity[part] for part in PARTS), *_others(own, group, name))
            value = group.settings.get(_names(own)[name], UNSET)
            series.setdefault(rest, []).append((_value(value), group))
        kept = {rest: points for rest, points in series.items() if len(points) > 1}
        title = method_name(own[0].method, library)
        for rest, points in kept.items():
            told = [part for part in rest if any(part not in other for other in kept)]
            found[f"{title} ({', '.join(told)})" if told else title] = _in_order(points)
    return found


def measure(
    groups: Sequence[RunGroup],
    names: Sequence[str],
    metric: Metric,
    confidence: float,
    library: Library,
) -> tuple[pd.DataFrame, dict[str, Look]]:
    """Return mean, std and t interval over seeds, in points, and how each ``row`` looks.

    A line for each value of the settings in ``names``, and one for each group whose method has
    none of them: its ``setting`` is empty.
    """
    lines: list[tuple[Any, ...]] = []
    looks: dict[str, Look] = {}
    methods = Counter[str]()
    for name in names:
        for row, points in rows(groups, name, library).items():
            group = points[0][1]
            if row not in looks:
                looks[row] = replace(group, variant=methods[group.method]).look
                methods[group.method] += 1
            lines += [
                (name, row, value, *statistics_of(group, metric, confidence))
                for value, group in points
            ]
    for group in groups:
        if not methods[group.method]:
            looks[group.label] = group.look
            lines.append(("", group.label, "", *statistics_of(group, metric, confidence)))
    frame = pd.DataFrame(lines, columns=COLUMNS).astype({"value": object, **FIGURES})
    if not frame["n"].any():
        raise UserError(f"{metric} is not defined for any of the runs")
    return frame, looks


def statistics_of(
    group: RunGroup, metric: Metric, confidence: float
) -> tuple[float | None, float | None, int, float | None, float | None]:
    """Return mean, std, number, and the ends of the t interval, in points; None: undefined."""
    found = [getattr(Metrics.read(d / "metrics.json"), metric) for d in group.runs.values()]
    points = [POINTS * value for value in found if value is not None]
    return (*mean_std(points), *(t_interval(points, confidence) or (None, None)))


def _by_method(groups: Sequence[RunGroup]) -> list[list[RunGroup]]:
    methods = dict.fromkeys(group.method for group in groups if group.method)
    return [[group for group in groups if group.method == name] for name in methods]


def _names(own: Sequence[RunGroup]) -> dict[str, str]:
    """Return the settings in which groups of one method differ: the key by its short name."""
    return {key.removeprefix(f"{own[0].method}."): key for key in varying(own)}


def _others(own: Sequence[RunGroup], group: RunGroup, name: str) -> list[str]:
    """Return what the other settings of a group are, in words."""
    return [
        f"{other.replace('_', ' ')} {_value(group.settings.get(key, UNSET))}"
        for other, key in _names(own).items()
        if other != name
    ]


def _value(value: Any) -> float | str:
    """Return a number as a number, all else in words."""
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | float) else str(value)


def _in_order(points: list[tuple[float | str, RunGroup]]) -> list[tuple[float | str, RunGroup]]:
    """Sort numbers; names stay in the order of the runs."""
    if _numeric(value for value, _ in points):
        return sorted(points, key=lambda point: point[0])
    return points


def _numeric(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def plot(frame: pd.DataFrame, looks: Mapping[str, Look], metric: str) -> Figure:
    """Return a panel for each setting: means with their intervals, and lines for all else."""
    fixed = frame[frame["setting"] == ""]
    panels = list(frame.loc[frame["setting"] != "", "setting"].unique())
    across = min(len(panels), ACROSS)
    down = -(-len(panels) // across)
    with rc_context(STYLE):
        size = (WIDTH, 2.3 * down + 0.3 + legend_height(looks))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for axes, name in zip(grid.flat, panels, strict=False):
            _panel(axes, frame[frame["setting"] == name], fixed, looks)
            axes.set_xlabel(name)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        figure.supylabel(f"{metric} (points)", fontsize=8)
        legend(figure, looks)
    return figure


def _panel(axes: Axes, lines: pd.DataFrame, fixed: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    for row, mean, low, high in fixed[["row", "mean", "low", "high"]].to_numpy():
        mark: dict[str, Any] = {
            "marker": looks[row].marker,
            "markersize": 4,
            "markevery": [1],
            "clip_on": False,
        }
        axes.axhline(mean, linewidth=1.0, label=row, **looks[row].line, **mark)
        if not math.isnan(low):
            axes.axhspan(low, high, color=looks[row].colour, alpha=0.12, linewidth=0)
    values = list(dict.fromkeys(lines["value"]))
    places = _axis(axes, values)
    series = list(lines.groupby("row", sort=False))
    step = min(APART, ROOM / len(series))
    for number, (row, own) in enumerate(series):
        look, shift = looks[str(row)], step * (number - (len(series) - 1) / 2)
        aside = ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
        # Names have no order that a line could follow.
        line = look.line if _numeric(values) else {**look.line, "linestyle": "none"}
        axes.errorbar(
            [places[value] for value in own["value"]], own["mean"],
            yerr=(own["mean"] - own["low"], own["high"] - own["mean"]),
            marker=look.marker, markersize=4, capsize=2, linewidth=1.0, elinewidth=0.9,
            label=row, transform=axes.transData + aside, **line,
        )  # fmt: skip
    # What is drawn beside its place is not counted by the axis itself.
    heights = lines[["mean", "low", "high"]].to_numpy(float).ravel()
    shown = [(0, height) for height in heights[np.isfinite(heights)]]
    axes.update_datalim(shown, updatex=False)
    axes.autoscale_view(scalex=False)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def _axis(axes: Axes, values: list[float | str]) -> dict[float | str, float]:
    """Scale the axis for the values of a setting; return the place of each on it."""
    if not _numeric(values):
        labels = [legible(str(value), LONGEST) for value in values]
        turned = 30 if sum(map(len, labels)) > SIDE_BY_SIDE else 0
        axes.set_xticks(range(len(values)), labels, rotation=turned)
        axes.set_xlim(-0.5, len(values) - 0.5)
        return {value: float(place) for place, value in enumerate(values)}
    numbers = sorted(float(value) for value in values)
    positive = [value for value in numbers if value > 0]
    if numbers[0] >= 0 and positive and positive[-1] >= WIDE * positive[0]:
        if positive == numbers:
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=positive[0])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    _ticks(axes, numbers)
    return {value: float(value) for value in values}


def _ticks(axes: Axes, numbers: list[float]) -> None:
    """Put the ticks at the values, unless they would be too close, and the limits about them."""
    scale = axes.xaxis.get_transform()
    at = scale.transform(np.array(numbers))
    span = at[-1] - at[0] or 1.0
    if all(after - before >= LEAST_GAP * span for before, after in pairwise(at)):
        axes.set_xticks(numbers, [f"{value:g}" for value in numbers])
    ends = np.array([at[0] - MARGIN * span, at[-1] + MARGIN * span])
    axes.set_xlim(*scale.inverted().transform(ends))
