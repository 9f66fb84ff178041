"""Curves of cost over size: their JSON file, and a picture with logarithmic axes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.plotting.style import QUIET, STYLE, WIDTH, Look, row_looks
from kd.common.files import read_json, replacing, write_json

COLUMNS = 4
LINEAR: dict[str, Any] = {"color": QUIET, "linestyle": (0, (2, 2)), "linewidth": 0.8}
"""Line of linear growth."""


@dataclass(frozen=True)
class Curve:
    """Cost of a method, or of another computation, over one size."""

    sweep: str
    """Name of the size; curves of one sweep and unit share a panel."""
    unit: str
    """Unit of ``y``."""
    name: str
    """Name of the method or computation."""
    x: Sequence[float]
    """Sizes, rising and above 0."""
    y: Sequence[float]

    @property
    def exponent(self) -> float:
        """Return the exponent of ``x`` over the last three points, or fewer: 1 is linear."""
        first = -min(3, len(self.x))
        rise, run = self.y[-1] / self.y[first], self.x[-1] / self.x[first]
        return math.log(rise) / math.log(run) if rise > 0 else math.nan


def write_curves(path: Path, curves: Sequence[Curve]) -> None:
    """Write curves to a JSON file, which ``benchmarks.growth`` reads."""
    write_json(path, [asdict(curve) for curve in curves])


def read_curves(path: Path) -> list[Curve]:
    """Return the curves of a file of ``write_curves``; none if it does not exist."""
    return [Curve(**record) for record in read_json(path)] if path.exists() else []


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write ``path`` as PDF and PNG: a panel for each sweep, a dashed line for linear growth.

    All axes are logarithmic.
    """
    names = list(dict.fromkeys(curve.name for curve in curves))
    looks = dict(zip(names, row_looks([("", name) for name in names]), strict=True))
    panels = list(dict.fromkeys((curve.sweep, curve.unit) for curve in curves))
    rows = math.ceil(len(panels) / COLUMNS)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + 2 * rows), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False).flat
        handles: dict[str, Any] = {}
        for panel, axes in zip_longest(panels, grid):
            if panel:
                panel_curves = [curve for curve in curves if (curve.sweep, curve.unit) == panel]
                handles |= _panel(axes, panel_curves, looks)
            else:
                axes.set_visible(False)
        handles["linear growth"] = Line2D([], [], **LINEAR)
        figure.legend(
            handles.values(), handles.keys(), loc="outside upper center", ncols=6, frameon=False
        )
        for suffix in (".pdf", ".png"):
            with replacing(path.with_suffix(suffix)) as file:
                figure.savefig(file, dpi=200, format=suffix[1:])


def _panel(axes: Axes, curves: Sequence[Curve], looks: Mapping[str, Look]) -> dict[str, Any]:
    """Draw the curves of one sweep; return a handle for each name."""
    handles = {}
    for curve in curves:
        points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if y > 0]
        style = looks[curve.name]
        (handles[curve.name],) = axes.plot(
            *zip(*points, strict=True), **style.line, marker=style.marker, markersize=3, linewidth=1
        )
    axes.set(xscale="log", yscale="log", xlabel=curves[0].sweep, ylabel=curves[0].unit)
    axes.set_xticks(curves[0].x, [f"{x:g}" for x in curves[0].x])
    low, high = axes.get_ylim()
    subs = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 5, 7)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=6.5)
    axes.minorticks_off()
    axes.grid(color="0.9", linewidth=0.5)
    _linear(axes, curves)
    return handles


def _linear(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw linear growth from the highest first point."""
    steepest = max(curves, key=lambda curve: curve.y[0])
    x, y = steepest.x, [steepest.y[0] * size / steepest.x[0] for size in steepest.x]
    limits = axes.get_ylim()
    axes.plot(x, y, **LINEAR, zorder=0)
    axes.set_ylim(limits)
