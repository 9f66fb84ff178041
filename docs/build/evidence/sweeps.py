"""What methods gain by the factor of their weights: a table, and a figure."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plotting.style import QUIET, STYLE, WIDTH, look
from analysis.runs.titles import method_name
from analysis.statistics.gains import paired_gains
from analysis.statistics.seeds import mean_std
from analysis.tables.formatting import ABSENT, number
from docs.build.evidence import causes
from kd.config.library import Library
from kd.config.plan import Row

FACTORS = {"A quarter": "¼", "Default": "1", "Four times": "4"}
"""Of the weights of a method, in the order of its sweep: in the table, and on the figure's axis."""
ACROSS = 4
"""Panels in a row."""
PANEL_HEIGHT = 1.35
"""Inches."""

Gains = Mapping[str, Mapping[str, list[float]]]
"""By method and setting: the paired gains in AP, in the order of the seeds; empty if not known."""


def gains(runs: pd.DataFrame, rows: Iterable[Row]) -> Gains:
    """Return the gains of the swept among ``rows`` over the baselines of the same seeds.

    ``runs``: the finished runs of the table, of ``docs.build.evidence.records``. A setting of which
    a seed is missing has no gain, and a method without any is left out.
    """
    points = {
        key: dict(zip(of["seed"], of["AP"], strict=True))
        for key, of in runs.groupby(["method", "setting"])
    }
    alone = points.get(("baseline", ""), {})
    found: dict[str, dict[str, list[float]]] = {}
    for method, settings in groupby((row for row in rows if row.setting), attrgetter("method")):
        own = {}
        for row in settings:
            paired = paired_gains(points.get((method, row.setting), {}), alone)
            own[row.setting] = paired if len(paired) == len(row.runs) else []
        if any(own.values()):
            found[method] = own
    return found


def table(found: Gains, terms: pd.DataFrame) -> list[dict[str, str]]:
    """Return a line for each method: mean and spread over the seeds of its gain by factor.

    ``terms``: those of the table, of ``docs.build.evidence.records``; they give the gradient of all
    terms at the neck beside that of detection, factor by factor.
    """
    library, lines = Library(), []
    for method, own in found.items():
        cells = [_cell(values) for values in own.values()]
        of_method = terms[terms["method"] == method]
        pulls = [
            causes.pull(of_method[of_method["setting"] == setting]) if values else ABSENT
            for setting, values in own.items()
        ]
        named = dict(zip(FACTORS, cells, strict=True))
        told = {"Gradient": "; ".join(pulls), "Settings": "; ".join(own)}
        lines.append({"Row": method_name(method, library), **named, **told})
    return lines


def _cell(values: list[float]) -> str:
    mean, std, _ = mean_std(values)
    return ABSENT if mean is None else number(mean, std, signed=True)


def plot(found: Gains) -> Figure:
    """Return a panel for each method: its gain over the factor, of each seed and in the mean."""
    library = Library()
    down = -(-len(found) // ACROSS)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * down + 0.4), layout="constrained")
        grid = figure.subplots(down, ACROSS, squeeze=False, sharex=True, sharey=True)
        for axes, (method, own) in zip(grid.flat, found.items(), strict=False):
            _panel(axes, method, list(own.values()))
            axes.set_title(method_name(method, library), loc="left")
        for axes in grid.flat[len(found) :]:
            axes.remove()
        figure.supxlabel("Factor of the weights (line: mean, points: seeds)")
        figure.supylabel("Gain (AP points)")
    return figure


def _panel(axes: Axes, method: str, points: list[list[float]]) -> None:
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
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
