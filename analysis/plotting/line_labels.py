"""Names of lines beside their ends, which need no legend."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.plotting.lettering import legible
from analysis.plotting.style import Look

FONT_SIZE = 7.0
LINE_SPACING = 1.25
"""Distance of two names, in font sizes."""
LETTER_WIDTH = 0.58
"""Width of a letter, in font sizes."""
GAP = 0.05
"""Distance of a name from the end of its line, as a part of the panel's width."""
LONGEST = 20
"""Letters of a name."""


def least_height(rows: int) -> float:
    """Return the height in inches of a panel in which the names of all rows fit."""
    return rows * LINE_SPACING * FONT_SIZE / 72


def label_lines(
    axes: Axes, lines: Mapping[str, Line2D], looks: Mapping[str, Look], width: float, height: float
) -> None:
    """Write the name of each line beside the end at which the lines are farther apart.

    The panel is about ``width`` by ``height`` inches; its limits must be set, and its y axis
    linear. Names at the left are inside the panel, whose x axis is extended for them.
    """
    if not lines:
        return
    ends = {side: [_end_of(line, side) for line in lines.values()] for side in (0, -1)}
    side = max((-1, 0), key=lambda side: _spread([y for _, y in ends[side]]))
    names = [legible(name, LONGEST) for name in lines]
    if side == 0:
        needed = max(map(len, names)) * LETTER_WIDTH * FONT_SIZE / 72 / width
        left, right = axes.get_xlim()
        axes.set_xlim(right - (right - left) / (1 - needed - 2 * GAP), right)
    low, high = axes.get_ylim()
    heights = [(y - low) / (high - low) for _, y in ends[side]]
    places = spread_out(heights, LINE_SPACING * FONT_SIZE / 72 / height)
    left, right = axes.get_xlim()
    end = (ends[side][0][0] - left) / (right - left)
    for (run, name), place, xy in zip(
        zip(lines, names, strict=True), places, ends[side], strict=True
    ):
        axes.annotate(
            name, xy, (end + (GAP if side else -GAP), place), textcoords="axes fraction",
            color=looks[run].color, fontsize=FONT_SIZE, va="center", ha="left" if side else "right",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": looks[run].color, "linewidth": 0.5,
                "shrinkA": 0, "shrinkB": 2, "relpos": (0, 0.5) if side else (1, 0.5),
            },
        )  # fmt: skip


def _end_of(line: Line2D, side: int) -> tuple[float, float]:
    x, y = np.asarray(line.get_xydata(), dtype=float)[side]
    return float(x), float(y)


def spread_out(places: Sequence[float], distance: float) -> list[float]:
    """Return places from 0 to 1 with a least ``distance``, in the same order, near the given ones.

    Places that are too close form a block, which is centered on their mean. More places than fit
    are above 1.
    """
    blocks: list[list[int]] = []
    for index in sorted(range(len(places)), key=lambda index: places[index]):
        blocks.append([index])
        while len(blocks) > 1 and _start(blocks[-1], places, distance) < distance + _end(
            blocks[-2], places, distance
        ):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    result = list(places)
    for block in blocks:
        for number, index in enumerate(block):
            result[index] = _start(block, places, distance) + number * distance
    return result


def _start(block: Sequence[int], places: Sequence[float], distance: float) -> float:
    length = (len(block) - 1) * distance
    middle = sum(places[index] for index in block) / len(block)
    return max(min(middle - length / 2, 1 - length), 0.0)


def _end(block: Sequence[int], places: Sequence[float], distance: float) -> float:
    return _start(block, places, distance) + (len(block) - 1) * distance


def _spread(values: Sequence[float]) -> float:
    """Return the mean distance of neighboring values, the largest ones limited to the median."""
    gaps = sorted(after - before for before, after in pairwise(sorted(values)))
    return sum(min(gap, gaps[len(gaps) // 2]) for gap in gaps) if gaps else 0.0
