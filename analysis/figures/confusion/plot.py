"""Picture of confusion matrices: a panel for each run, with shares in per cent."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis.figures.confusion.compute import BACKGROUND, reduced, shares
from analysis.plotting.panels import panel_grid
from analysis.plotting.style import STYLE, WIDTH
from kd.common.lettering import legible
from kd.evaluation.voc import Floats, Integers

COLORS = "Blues"
DARK = 70
"""Share in per cent from which the number in a cell is white."""
CELL = 0.4
"""Largest side of a cell, in inches."""
MARGIN = 0.5
"""Inches of a panel's column without cells."""
LABEL_LENGTH = 14
SMALL = 6.0
"""Points of the numbers in cells."""


def plot_figures(
    matrices: Mapping[str, Integers], names: Sequence[str], most: int
) -> dict[str, Figure]:
    """Return the picture of the matrices, with at most ``most`` classes."""
    smaller, labels = reduced(matrices, names, most)
    return {"confusion": plot({run: shares(counts) for run, counts in smaller.items()}, labels)}


def plot(matrices: Mapping[str, Floats], labels: Sequence[str]) -> Figure:
    """Return a heat map of each matrix; rows are classes of objects."""
    size = len(labels)
    across = max(min(3 if size <= 11 else 2, len(matrices)), 1)
    down = -(-len(matrices) // across)
    side = min(WIDTH / across - MARGIN, size * CELL)
    names = [legible(name, LABEL_LENGTH) for name in labels]
    with rc_context(STYLE):
        figure, panels = panel_grid(
            len(matrices), across, side + 0.2, 1.0, sharex=True, sharey=True
        )
        for place, (axes, (run, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
            image = _draw(axes, matrix)
            axes.set_title(legible(run, 30), loc="left", fontsize=8)
            axes.set_xticks(range(size), names, rotation=90, fontsize=6.5)
            axes.set_yticks(range(size), names, fontsize=6.5)
            axes.tick_params(length=0, labelbottom=place + across >= len(matrices))
        figure.supxlabel(f"Class of the detection ({BACKGROUND}: missed object)", fontsize=8)
        figure.supylabel(f"Class of the object ({BACKGROUND}: no object)", fontsize=8)
        bar = figure.colorbar(
            image,
            ax=panels,
            shrink=min(1.5 / down, 0.8),
            aspect=20 if down == 1 else 25,
            pad=0.01,
        )
        bar.set_label("Share of the row (%)")
        bar.outline.set_visible(False)
    return figure


def _draw(axes: Axes, matrix: Floats) -> AxesImage:
    image = axes.imshow(matrix, cmap=COLORS, vmin=0, vmax=100)
    for row, column in np.argwhere(np.nan_to_num(matrix) >= 0.5).tolist():
        value = matrix[row, column]
        axes.text(
            column, row, f"{value:.0f}", ha="center", va="center", fontsize=SMALL,
            color="white" if value >= DARK else "black",
        )  # fmt: skip
    # A line between the classes and the background.
    for draw in (axes.axhline, axes.axvline):
        draw(len(matrix) - 1.5, color="0.45", linewidth=0.6)
    axes.spines[:].set_visible(False)
    return image
