"""Table of ablation plots: a metric over the values of a swept setting, with intervals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.figures.base import looks_of
from analysis.plotting.style import Look
from analysis.runs.groups import RunGroup, varying
from analysis.runs.titles import method_name
from analysis.statistics.seeds import POINTS, Metric, mean_std, t_interval
from kd.common.errors import UserError, suggest
from kd.common.results import results_folder
from kd.config.library import Library
from kd.data.entry import SplitName
from kd.evaluation.metrics import Metrics

COLUMNS = ("setting", "row", "value", "mean", "std", "n", "low", "high")
NUMBERS = dict.fromkeys(("mean", "std", "low", "high"), float)
PARTS = ("dataset", "schedule", "scale", "detector", "student")
"""Parts of a run that are equal within a row."""
UNSET = "unset"
"""Value of a setting that a method does not have."""

Series = list[tuple[float | str, RunGroup]]
"""Runs of one row: each value of the swept setting, and the group of runs that has it."""


def compute_tables(
    groups: Sequence[RunGroup],
    setting: str | None,
    metric: Metric,
    confidence: float,
    library: Library,
    split: SplitName,
) -> tuple[dict[str, pd.DataFrame], dict[str, Look]]:
    """Return mean, std and t interval over seeds, in points, and the look of each ``row``.

    The table has a line for each value of the swept settings, and one with an empty ``setting`` for
    each group whose method has none of them. UserError if ``metric`` is undefined in all runs.
    """
    lines: list[tuple[Any, ...]] = []
    rows: dict[str, RunGroup] = {}
    for name in swept_settings(groups, setting, library):
        for row, series in swept_rows(groups, name, library).items():
            rows.setdefault(row, replace(series[0][1], label=row))
            lines += [
                (name, row, value, *seed_statistics(group, metric, confidence, split))
                for value, group in series
            ]
    swept_methods = {group.method for group in rows.values()}
    for group in groups:
        if group.method not in swept_methods:
            rows[group.label] = group
            lines.append(("", group.label, "", *seed_statistics(group, metric, confidence, split)))
    frame = pd.DataFrame(lines, columns=COLUMNS).astype({"value": object, **NUMBERS})
    if not frame["n"].any():
        raise UserError(f"{metric} is not defined for any of the runs")
    return {"ablation": frame}, looks_of(list(rows.values()))


def swept_settings(groups: Sequence[RunGroup], setting: str | None, library: Library) -> list[str]:
    """Return the swept settings to draw: ``setting``, or all; UserError if it is not swept.

    The name is ``weight`` where RM is the whole method, and ``rm.weight`` where RM is a term of a
    sum.
    """
    candidates = dict.fromkeys(
        name for same_method in _by_method(groups) for name in _short_names(same_method)
    )
    names = [name for name in candidates if swept_rows(groups, name, library)]
    if not names:
        raise UserError(
            "no two of the runs are of one method and differ in one setting alone; give those of "
            "a table with a 'sweep'"
        )
    if setting is not None and setting not in names:
        raise UserError(f"key 'setting': no '{setting}' is swept; {suggest(setting, names)}")
    return names if setting is None else [setting]


def swept_rows(groups: Sequence[RunGroup], name: str, library: Library) -> dict[str, Series]:
    """Return the rows of a swept setting by label; within a row nothing else differs."""
    rows = {}
    for same_method in _by_method(groups):
        if name not in _short_names(same_method):
            continue
        series: dict[tuple[str, ...], Series] = {}
        for group in same_method:
            rest = (
                *(group.identity[part] for part in PARTS),
                *_other_settings(same_method, group, name),
            )
            value = group.settings.get(_short_names(same_method)[name], UNSET)
            series.setdefault(rest, []).append((_readable(value), group))
        swept = {rest: points for rest, points in series.items() if len(points) > 1}
        title = method_name(same_method[0].method, library)
        for rest, points in swept.items():
            distinct = [part for part in rest if any(part not in other for other in swept)]
            label = f"{title} ({', '.join(distinct)})" if distinct else title
            rows[label] = _in_order(points)
    return rows


def seed_statistics(
    group: RunGroup, metric: Metric, confidence: float, split: SplitName
) -> tuple[float | None, float | None, int, float | None, float | None]:
    """Return mean, std, number and ends of the t interval over seeds, in points, or None."""
    folders = [results_folder(run, split) for run in group.runs.values()]
    values = [getattr(Metrics.read(folder / "metrics.json"), metric) for folder in folders]
    points = [POINTS * value for value in values if value is not None]
    return (*mean_std(points), *(t_interval(points, confidence) or (None, None)))


def is_numeric(values: Sequence[Any]) -> bool:
    """Return True if all values of a setting are numbers."""
    return all(isinstance(value, int | float) for value in values)


def _by_method(groups: Sequence[RunGroup]) -> list[list[RunGroup]]:
    methods = dict.fromkeys(group.method for group in groups if group.method)
    return [[group for group in groups if group.method == name] for name in methods]


def _short_names(same_method: Sequence[RunGroup]) -> dict[str, str]:
    """Return the settings in which groups of one method differ: dotted names by short names."""
    method = same_method[0].method
    return {key.removeprefix(f"{method}."): key for key in varying(same_method)}


def _other_settings(same_method: Sequence[RunGroup], group: RunGroup, name: str) -> list[str]:
    """Return the settings of a group that vary, without the swept one, in words."""
    return [
        f"{other.replace('_', ' ')} {_readable(group.settings.get(key, UNSET))}"
        for other, key in _short_names(same_method).items()
        if other != name
    ]


def _readable(value: Any) -> float | str:
    """Return a number unchanged, and any other value in words."""
    if isinstance(value, bool) or value is None:
        return {True: "on", False: "off", None: "none"}[value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | float) else str(value)


def _in_order(points: Series) -> Series:
    """Return points sorted by number; names remain in the order of the runs."""
    if is_numeric([value for value, _ in points]):
        return sorted(points, key=lambda point: point[0])
    return points
