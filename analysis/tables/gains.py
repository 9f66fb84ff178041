"""The gain figure: each method's gain over its own baseline, ours beside the published one."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plotting.lettering import legible
from analysis.plotting.style import QUIET, STYLE, WIDTH
from analysis.tables import rows
from analysis.tables.formatting import distinct, name_of, stand_ins

# Two of Okabe and Ito's colours; filled against hollow tells them apart in grey.
OURS: dict[str, Any] = {"color": "#0072B2", "marker": "o", "markersize": 5}
PUBLISHED: dict[str, Any] = {"color": "#D55E00", "marker": "D", "markersize": 4.5, "mfc": "white"}
BARS: dict[str, dict[str, Any]] = {
    "gain": {"linewidth": 1.4},
    "image": {"linewidth": 1.0, "linestyle": (0, (1, 1))},
}
"""By what the interval is over: seeds, or test images where only one seed was run."""
PANELS_A_ROW = 2
LINE_HEIGHT = 0.32
"""Inches for one method."""
LABEL_LENGTH, TITLE_LENGTH, CAPTION_LENGTH = 28, 36, 110
"""Characters."""
CAPTION_HEIGHT = 0.13
"""Inches for one line."""
MARK = "†"
"""Of published gains under other conditions than ours; which these are is said by the table."""
OFFSET = 0.18
"""Of a line: ours stand that much above its middle, published below, so that neither hides."""

Line = Mapping[str, Any]


def plot(frame: pd.DataFrame) -> Figure:
    """Return a panel for each group of a table's distilled rows; gains in points of its headline.

    Reads the columns of ``analysis.tables.rows.build``. Bars are intervals over seeds, else over
    images. A row without a gain is named with its status.
    """
    lines = [line for line in rows.lines(frame) if line["kind"] == "distilled"]
    panels = rows.grouped(lines, "group")
    across = min(len(panels), PANELS_A_ROW) or 1
    listed = list(panels.values())
    strips = [listed[start : start + across] for start in range(0, len(listed), across)]
    heights = [max(map(len, strip)) + 1.6 for strip in strips] or [2.0]
    caption = _caption(lines)
    with rc_context(STYLE):
        height = LINE_HEIGHT * sum(heights) + CAPTION_HEIGHT * (caption.count("\n") + 3) + 0.4
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(
            len(heights), across, squeeze=False, sharex=True, height_ratios=heights
        )
        for axes, (group, members) in zip(grid.flat, panels.items(), strict=False):
            _panel(axes, textwrap.fill(legible(group, 3 * TITLE_LENGTH), TITLE_LENGTH), members)
        for strip in grid:
            _share_labels(strip)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        if not panels:
            figure.text(0.5, 0.5, "no distilled row", ha="center", color=QUIET)
        figure.supxlabel(caption, fontsize=7)
        figure.legend(handles=_legend(lines), loc="outside upper right", ncols=4, frameon=False)
    return figure


def _caption(lines: Sequence[Line]) -> str:
    """Return the words under the axis: what it shows, what stands in, and the mark's meaning."""
    metric = name_of(lines[0]["metric"]) if lines else "AP"
    shown = f"Gain over the student's own baseline ({metric} points)"
    differs = any(line["differs"] for line in lines)
    marked = [f"{MARK} published under other conditions than ours"] if differs else []
    notes = [*stand_ins(lines), *marked]
    return "\n".join([shown, *(textwrap.fill(note, CAPTION_LENGTH) for note in notes)])


def _panel(axes: Axes, title: str, lines: Sequence[Line]) -> None:
    axes.set_title(title, loc="left")
    axes.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
    offset = 0.0 if all(pd.isna(line["published_gain"]) for line in lines) else OFFSET
    ours = [place - offset for place in range(len(lines))]
    _points(axes, "ours", [line["gain"] for line in lines], ours, OURS)
    _bars(axes, lines, ours)
    published = [place + offset for place in range(len(lines))]
    _points(axes, "published", [line["published_gain"] for line in lines], published, PUBLISHED)
    axes.set_yticks(range(len(lines)), [_label(line, lines) for line in lines])
    for text, line in zip(axes.get_yticklabels(), lines, strict=True):
        if pd.isna(line["gain"]):
            text.set_color(QUIET)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def _points(
    axes: Axes, name: str, gains: list[float], places: list[float], style: dict[str, Any]
) -> None:
    """Draw one mark a line; absent gains leave a gap."""
    axes.plot(gains, places, linestyle="none", gid=name, **style)


def _bars(axes: Axes, lines: Sequence[Line], places: list[float]) -> None:
    """Draw each line's interval."""
    for line, place in zip(lines, places, strict=True):
        if kind := _interval(line):
            low, high = line[f"{kind}_low"], line[f"{kind}_high"]
            axes.hlines(place, low, high, color=OURS["color"], gid=kind, **BARS[kind])


def _interval(line: Line) -> str:
    """Return which interval a line has, that over seeds before that over images."""
    return next((kind for kind in BARS if not pd.isna(line[f"{kind}_low"])), "")


def _label(line: Line, lines: Sequence[Line]) -> str:
    """Return a row's name, with its student where names repeat and the reason for a gap."""
    name = distinct(line, lines) + (MARK if line["differs"] else "")
    if not pd.isna(line["gain"]):
        return _lines(name, 2)
    reason = "no baseline" if line["status"] == "ok" else line["status"]
    return f"{_lines(name, 1)}\n{_lines(reason, 1)}"


def _lines(text: str, most: int) -> str:
    return "\n".join(textwrap.wrap(text, LABEL_LENGTH, max_lines=most, placeholder=" ..."))


def _share_labels(strip: Sequence[Axes]) -> None:
    """Drop the names of a panel that has the same ones as the panel to its left."""
    names = [[text.get_text() for text in axes.get_yticklabels()] for axes in strip]
    for axes, (left, mine) in zip(strip[1:], pairwise(names), strict=True):
        if mine == left:
            axes.tick_params(axis="y", labelleft=False)


def _legend(lines: Sequence[Line]) -> list[Line2D]:
    """Name the marks and bars that are drawn."""
    drawn = {_interval(line) for line in lines}
    bars = {"gain": "95 % over seeds", "image": "95 % over images"}
    published = any(not pd.isna(line["published_gain"]) for line in lines)
    return [
        Line2D([], [], linestyle="none", label="ours", **OURS),
        *(
            Line2D([], [], color=OURS["color"], label=text, **BARS[kind])
            for kind, text in bars.items()
            if kind in drawn
        ),
        *([Line2D([], [], linestyle="none", label="published", **PUBLISHED)] if published else []),
    ]
