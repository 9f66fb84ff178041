"""Gains of methods by the factor of their weights: a table and a picture."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plotting.panels import horizontal_grid, panel_grid
from analysis.plotting.style import QUIET, STYLE, look
from analysis.runs.titles import method_name
from analysis.statistics.gains import paired_gains
from analysis.statistics.seeds import mean_std
from analysis.tables.formatting import ABSENT, number
from docs.build.evidence import causes
from kd.config.library import Library
from kd.config.plan import Row

FACTORS = {"A quarter": "¼", "Default": "1", "Four times": "4"}
"""Factors of a method's weights, in the order of its sweep: column titles and axis labels."""
COLUMNS = 4
"""Panels in a row."""
PANEL_HEIGHT = 1.35
"""Height of a panel in inches."""

Gains = Mapping[str, Mapping[str, list[float]]]
"""Paired gains in AP by method and setting, by seed; empty if a seed is missing."""


def sweep_gains(runs: pd.DataFrame, rows: Iterable[Row]) -> Gains:
    """Return the gains of the swept rows over the baselines of the same seeds.

    ``runs`` are the finished runs of the table in ``docs.build.evidence.records``. A setting that
    lacks a seed has no gain, and a method without gains is left out.
    """
    points = {
        key: dict(zip(group["seed"], group["AP"], strict=True))
        for key, group in runs.groupby(["method", "setting"])
    }
    baseline = points.get(("baseline", ""), {})
    by_method: dict[str, dict[str, list[float]]] = {}
    for method, settings in groupby((row for row in rows if row.setting), attrgetter("method")):
        by_setting = {}
        for row in settings:
            paired = paired_gains(points.get((method, row.setting), {}), baseline)
            by_setting[row.setting] = paired if len(paired) == len(row.runs) else []
        if any(by_setting.values()):
            by_method[method] = by_setting
    return by_method


def table(gains: Gains, terms: pd.DataFrame) -> list[dict[str, str]]:
    """Return a line for each method: mean and standard deviation of its gain by factor.

    ``terms`` are those of the table in ``docs.build.evidence.records``, for the ratio of all terms'
    gradient on the neck to that of detection, by factor.
    """
    library, lines = Library(), []
    for method, by_setting in gains.items():
        cells = [_cell(values) for values in by_setting.values()]
        method_terms = terms[terms["method"] == method]
        gradients = [
            causes.gradient_ratio(method_terms[method_terms["setting"] == setting])
            if values
            else ABSENT
            for setting, values in by_setting.items()
        ]
        lines.append(
            {"Row": method_name(method, library)}
            | dict(zip(FACTORS, cells, strict=True))
            | {"Gradient": "; ".join(gradients), "Settings": "; ".join(by_setting)}
        )
    return lines


def _cell(values: list[float]) -> str:
    mean, std, _ = mean_std(values)
    return ABSENT if mean is None else number(mean, std, signed=True)


def plot(gains: Gains) -> Figure:
    """Return a panel for each method: its gain by factor, of each seed and the mean."""
    library = Library()
    with rc_context(STYLE):
        figure, panels = panel_grid(
            len(gains), COLUMNS, PANEL_HEIGHT, 0.4, sharex=True, sharey=True
        )
        for axes, (method, by_setting) in zip(panels, gains.items(), strict=True):
            _draw_panel(axes, method, list(by_setting.values()))
            axes.set_title(method_name(method, library), loc="left")
        figure.supxlabel("Factor of the weights (line: mean, points: seeds)")
        figure.supylabel("Gain (AP points)")
    return figure


def _draw_panel(axes: Axes, method: str, points: list[list[float]]) -> None:
    looks = look("student", method)
    axes.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
    means = np.array([mean_std(values).mean for values in points], dtype=float)
    axes.plot(means, **looks.line)
    for place, values in enumerate(points):
        axes.plot(
            [place] * len(values), values, markersize=4, markerfacecolor="white", **looks.point
        )
    axes.set_xticks(range(len(FACTORS)), [*FACTORS.values()])
    axes.tick_params(labelbottom=True)
    axes.set_xlim(-0.3, len(FACTORS) - 0.7)
    horizontal_grid(axes)
