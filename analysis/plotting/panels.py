"""Figures of several panels, and the elements that their panels share."""

from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.plotting.style import QUIET, STYLE, WIDTH


def panel_grid(
    count: int,
    columns: int,
    row_height: float,
    extra_height: float,
    width: float = WIDTH,
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """Return a figure and its ``count`` panels, row by row, with at most ``columns`` in a row.

    ``row_height`` and ``extra_height`` (of legend and labels) are inches. ``options`` are those of
    ``Figure.subplots``. Call it and draw the panels under ``rc_context(STYLE)``.
    """
    across = max(min(count, columns), 1)
    down = max(-(-count // across), 1)
    figure = Figure(figsize=(width, row_height * down + extra_height), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, **options)
    for axes in grid.flat[count:]:
        axes.remove()
    return figure, list(grid.flat[:count])


def columns_of(count: int, fewest: int = 3, most: int = 6) -> int:
    """Return the number of columns that leave the fewest places of a grid empty, or the largest."""
    if count <= most:
        return max(count, 1)
    return min(range(most, fewest - 1, -1), key=lambda columns: -count % columns)


def horizontal_grid(axes: Axes) -> None:
    """Draw light horizontal lines behind the data of a panel."""
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def widen(axes: Axes, axis: Literal["x", "y"], span: float) -> None:
    """Widen the limits of an axis about their middle, so that they are ``span`` apart at least."""
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    if (missing := span - (high - low)) > 0:
        limits = (low - missing / 2, high + missing / 2)
        axes.set(**{f"{axis}lim": limits})


def message_figure(text: str) -> Figure:
    """Return a figure with one sentence: the reason why there is nothing to draw."""
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1), layout="constrained")
        figure.text(0.5, 0.5, text, ha="center", va="center", color=QUIET)
    return figure
