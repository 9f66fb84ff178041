"""Checks that a picture can be read: sizes of texts, overlaps, and panels without content."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

LEAST_SIZE = 6.0
"""Points of the smallest text: 9 pixels if the picture is 740 pixels wide."""
TOLERANCE = 2.0
"""Pixels that the boxes of two texts may share; letters do not fill their box."""


def faults(figure: Figure) -> list[str]:
    """Return what makes a picture hard to read, one sentence for each fault."""
    figure.draw_without_rendering()
    texts = [text for text in _texts(figure) if text.get_visible() and text.get_text().strip()]
    small = [text for text in texts if text.get_fontsize() < LEAST_SIZE]
    # The extent of an annotation as a text is without its arrow.
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts]
    overlaps = [
        f"{one!r} overlaps {other!r}"
        for (one, first), (other, second) in combinations(boxes, 2)
        if min(first.x1, second.x1) - max(first.x0, second.x0) > TOLERANCE
        and min(first.y1, second.y1) - max(first.y0, second.y0) > TOLERANCE
    ]
    return [
        *(f"{text.get_text()!r} has {text.get_fontsize():g} points" for text in small),
        *overlaps,
        *(f"panel {axes.get_title(loc='left')!r} is empty" for axes in figure.axes if _empty(axes)),
    ]


def _empty(axes: Axes) -> bool:
    parts = (axes.lines, axes.patches, axes.collections, axes.images, axes.texts, axes.tables)
    return not any(map(len, parts)) and axes.get_label() != "<colorbar>"


def _texts(figure: Figure) -> list[Text]:
    texts = list(figure.texts)
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes._left_title, axes._right_title]
        if legend := axes.get_legend():
            texts += [*legend.get_texts(), legend.get_title()]
        if not axes.axison:
            continue
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
            texts += [tick.label1 for tick in ticks] + [axis.label, axis.get_offset_text()]
    return texts
