"""The gain figure: each method's gain over its own baseline, ours beside the published one."""

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.style import QUIET, STYLE, WIDTH
from analysis.tables import groups, marks

# Two of Okabe and Ito's colours; filled against hollow tells them apart in grey.
OURS: dict[str, Any] = {"color": "#0072B2", "marker": "o", "markersize": 5}
PUBLISHED: dict[str, Any] = {"color": "#D55E00", "marker": "D", "markersize": 4.5, "mfc": "white"}
PANELS_A_ROW = 2
LINE_HEIGHT = 0.32
"""Inches for one method."""
LABEL_LENGTH, TITLE_LENGTH, CAPTION_LENGTH = 28, 36, 110
"""Characters."""
OFFSET = 0.18
"""Of a line: ours stand that much above its middle, published below, so that neither hides."""


def plot(frame: pd.DataFrame) -> Figure:
    """Return a panel for each group of distilled rows; gains in AP points, bars of one std.

    Reads the columns of ``analysis.tables.build``. A row without a gain is named with its status.
    """
    rows = frame[frame["kind"] == "distilled"]
    panels = groups(rows)
    across = min(len(panels), PANELS_A_ROW) or 1
    strips = [panels[start : start + across] for start in range(0, len(panels), across)]
    heights = [max(len(lines) for _, _, lines in strip) + 1.6 for strip in strips] or [2.0]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, LINE_HEIGHT * sum(heights) + 0.6), layout="constrained")
        grid = figure.subplots(
            len(heights), across, squeeze=False, sharex=True, height_ratios=heights
        )
        for axes, (table, group, lines) in zip(grid.flat, panels, strict=False):
            title = f"{table}: {group}" if rows["table"].nunique() > 1 else group
            _panel(axes, textwrap.fill(title, TITLE_LENGTH), lines, marks(rows))
        for strip in grid:
            _share_labels(strip)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        if not panels:
            figure.text(0.5, 0.5, "no distilled row", ha="center", color=QUIET)
        figure.supxlabel(_caption(marks(rows)), fontsize=8)
        figure.legend(handles=_legend(), loc="outside upper right", ncols=2, frameon=False)
    return figure


def _caption(notes: dict[str, str]) -> str:
    """Return the words under the axis: what it shows, then the footnotes."""
    footnotes = [textwrap.fill(f"{mark} {note}", CAPTION_LENGTH) for note, mark in notes.items()]
    return "\n".join(["Gain over the student's own baseline (AP points)", *footnotes])


def _panel(axes: Axes, title: str, lines: list[dict[str, Any]], notes: dict[str, str]) -> None:
    axes.set_title(title, loc="left")
    axes.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
    places = range(len(lines))
    _points(axes, "ours", [place - OFFSET for place in places], lines, OURS)
    _points(axes, "published", [place + OFFSET for place in places], lines, PUBLISHED)
    axes.set_yticks(list(places), [_label(line, lines, notes) for line in lines])
    for text, line in zip(axes.get_yticklabels(), lines, strict=True):
        if _absent(line["gain"]):
            text.set_color(QUIET)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def _points(
    axes: Axes, name: str, places: list[float], lines: list[dict[str, Any]], style: dict[str, Any]
) -> None:
    """Draw one mark a line, with its spread where there is one; absent gains leave a gap."""
    prefix = "" if name == "ours" else "published_"
    gains = [float(line[f"{prefix}gain"]) for line in lines]
    spreads = [float(line["gain_std"]) for line in lines] if name == "ours" else None
    bars = axes.errorbar(
        gains, places, xerr=spreads, linestyle="none", capsize=2, elinewidth=1, **style
    )
    bars.lines[0].set_gid(name)


def _label(line: dict[str, Any], lines: list[dict[str, Any]], notes: dict[str, str]) -> str:
    """Return a row's name, with its student where names repeat and the reason for a gap."""
    repeated = sum(other["row"] == line["row"] for other in lines) > 1
    name = f"{line['row']} ({line['student']})" if repeated else line["row"]
    name += notes.get(line["note"], "")
    if not _absent(line["gain"]):
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


def _absent(value: Any) -> bool:
    return math.isnan(float(value))


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], linestyle="none", label=name, **style)
        for name, style in (("ours (bar: one std over seeds)", OURS), ("published", PUBLISHED))
    ]
