"""The gain figure: gains over the baselines, and the published gains where they can be compared."""

import re
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as MarkerPath

from analysis.plotting.style import QUIET, STYLE, WIDTH
from analysis.statistics.equivalence import HELPS, HURTS, NO_GAIN
from analysis.statistics.seeds import Interval
from analysis.tables.formatting import MINUS, STAR, judgment_text, metric_title
from analysis.tables.miniature import printable, warning
from analysis.tables.printed import distinct_label
from analysis.tables.rows import DONE, ResultRow, by_group
from kd.common.lettering import legible

# Two of Okabe and Ito's colors; filled and hollow marks differ in gray, too.
OURS: dict[str, Any] = {"color": "#0072B2", "marker": "o", "markersize": 4.5}
PUBLISHED: dict[str, Any] = {"color": "#D55E00", "marker": "D", "markersize": 7, "mfc": "white"}
"""Marks on one line; the published one is larger and hollow, so that it is visible behind ours."""
JUDGMENT_MARKS = {HELPS: STAR, HURTS: STAR, NO_GAIN: "="}
"""Marks of what is shown of a gain; an undetermined one has none."""
EQUALS = MarkerPath([(-1, 0.45), (1, 0.45), (-1, -0.45), (1, -0.45)], [1, 2, 1, 2])
"""Marker of two lines; one of a formula would be drawn with its dollars (``style.STYLE``)."""
MARK_STYLES: dict[str, dict[str, Any]] = {
    STAR: {"color": OURS["color"], "marker": (6, 2, 0), "markersize": 5},
    "=": {"color": OURS["color"], "marker": EQUALS, "markersize": 6, "markeredgewidth": 1.2},
}
MARK_LABELS = {STAR: f"{HELPS} or {HURTS}", "=": NO_GAIN}
BARS: dict[str, dict[str, Any]] = {
    "gain": {"linewidth": 1.4},
    "image": {"linewidth": 1.0, "linestyle": (0, (1, 1))},
}
"""Line styles of intervals: over seeds, or over test images where only one seed was run."""
BAR_LABELS = {"gain": "95 % over seeds, all rows together", "image": "95 % over images"}
PANELS_A_ROW = 2
LINE_HEIGHT = 0.32
"""Inches for one method."""
LABEL_LENGTH, TITLE_LENGTH = 28, 36
"""Characters."""
CAPTION_HEIGHT = 0.13
"""Inches for one line."""
MARK = "†"
"""Mark of published gains under other conditions than ours, which the notes of the table list."""


def plot_gains(rows: Sequence[ResultRow]) -> Figure:
    """Return a panel for each group of a table's distilled rows; gains in points of its headline.

    Bars are intervals over seeds, else over images. A row without a gain shows its status.
    Published gains are drawn only if no part is replaced by a stand-in: gains of miniature runs
    and gains on COCO do not belong on one axis.
    """
    distilled = [row for row in printable(rows) if row.compared]
    comparable = not any(row.stand_ins for row in distilled)
    panels = by_group(distilled)
    across = min(len(panels), PANELS_A_ROW) or 1
    members = list(panels.values())
    strips = [members[start : start + across] for start in range(0, len(members), across)]
    heights = [max(map(len, strip)) + 1.6 for strip in strips] or [2.0]
    caption = _axis_label(distilled, comparable)
    with rc_context(STYLE):
        height = LINE_HEIGHT * sum(heights) + CAPTION_HEIGHT * (caption.count("\n") + 3) + 0.4
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(
            len(heights), across, squeeze=False, sharex=True, height_ratios=heights
        )
        for axes, (group, of_group) in zip(grid.flat, panels.items(), strict=False):
            title = textwrap.fill(legible(group, 3 * TITLE_LENGTH), TITLE_LENGTH)
            _panel(axes, title, of_group, comparable)
        for strip_axes in grid:
            _share_labels(strip_axes)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        if not panels:
            figure.text(0.5, 0.5, "no distilled row", ha="center", color=QUIET)
        figure.supxlabel(caption, fontsize=7)
        handles = _legend(distilled, comparable)
        figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False)
    return figure


def gain_alt_text(rows: Sequence[ResultRow]) -> str:
    """Return the alternative text of the figure: each row's gain and interval."""
    distilled = [row for row in printable(rows) if row.compared]
    if not distilled:
        return "No row is distilled."
    metric = metric_title(distilled[0].metric)
    gains = "; ".join(f"{row.group}, {row.label}: {_in_words(row)}" for row in distilled)
    return f"Points of each row's gain over its baseline, in {metric} points. {gains}."


def _in_words(row: ResultRow) -> str:
    if row.gain is None:
        return row.status
    _, interval = _interval(row)
    ends = f" ({interval[0]:+.1f} to {interval[1]:+.1f})" if interval else ""
    words = " ".join(filter(None, [f"{row.gain.mean:+.1f}{ends}", judgment_text(row.gain)]))
    return words.replace("-", MINUS)


def _axis_label(rows: Sequence[ResultRow], comparable: bool) -> str:
    """Return the text under the axis: the quantity, and a warning or the meaning of the mark."""
    metric = metric_title(rows[0].metric) if rows else "AP"
    lines = [f"Gain over the student's own baseline ({metric} points)"]
    if note := warning(rows):
        lines.append(note)
    elif comparable and any(row.differs for row in rows):
        lines.append(f"{MARK} published under other conditions than ours")
    return "\n".join(lines)


def _panel(axes: Axes, title: str, rows: Sequence[ResultRow], comparable: bool) -> None:
    axes.set_title(title, loc="left")
    axes.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
    heights = [float(index) for index in range(len(rows))]
    if comparable:
        _draw_points(axes, "published", [row.published_gain for row in rows], heights, PUBLISHED)
    _draw_bars(axes, rows, heights)
    _draw_points(axes, "ours", [row.gain.mean if row.gain else None for row in rows], heights, OURS)
    _draw_judgments(axes, rows, heights)
    axes.set_yticks(range(len(rows)), [_label(row, rows, comparable) for row in rows])
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row.gain is None:
            text.set_color(QUIET)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=True)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)


def _draw_points(
    axes: Axes,
    name: str,
    gains: Sequence[float | None],
    heights: list[float],
    style: dict[str, Any],
) -> None:
    """Draw one mark a row; absent gains leave a gap."""
    values = [float("nan") if gain is None else gain for gain in gains]
    axes.plot(values, heights, linestyle="none", gid=name, **style)


def _draw_bars(axes: Axes, rows: Sequence[ResultRow], heights: list[float]) -> None:
    """Draw the interval of each row that has one."""
    for row, height in zip(rows, heights, strict=True):
        kind, interval = _interval(row)
        if interval:
            axes.hlines(height, *interval, color=OURS["color"], gid=kind, **BARS[kind])


def _draw_judgments(axes: Axes, rows: Sequence[ResultRow], heights: list[float]) -> None:
    """Draw the mark of what is shown of a gain at the right end of the row's interval."""
    for row, height in zip(rows, heights, strict=True):
        if row.gain and row.gain.judgment in JUDGMENT_MARKS:
            _, interval = _interval(row)
            end = max(interval) if interval else row.gain.mean
            axes.annotate(
                JUDGMENT_MARKS[row.gain.judgment], (end, height), xytext=(4, -4),
                textcoords="offset points", color=OURS["color"], fontsize=10, fontweight="bold",
            )  # fmt: skip


def _interval(row: ResultRow) -> tuple[str, Interval | None]:
    """Return kind and ends of a row's interval: over seeds, else over images."""
    if row.gain is None:
        return "", None
    if row.gain.simultaneous:
        return "gain", row.gain.simultaneous
    return "image", row.gain.over_images


def _label(row: ResultRow, rows: Sequence[ResultRow], comparable: bool) -> str:
    """Return a row's label, with its student where labels repeat and the reason for a gap."""
    label = distinct_label(row, rows) + (MARK if row.differs and comparable else "")
    if row.gain:
        return _wrapped(label, 2)
    reason = "no baseline" if row.status == DONE else row.status
    return f"{_wrapped(label, 1)}\n{_wrapped(reason, 1)}"


def _wrapped(text: str, lines: int) -> str:
    """Return text in lines, which do not break within a short setting such as ``(14 epochs)``."""
    text = re.sub(r"\(.{1,20}\)", lambda setting: setting[0].replace(" ", "\u00a0"), text)
    return "\n".join(textwrap.wrap(text, LABEL_LENGTH, max_lines=lines, placeholder=" ..."))


def _share_labels(strip: Sequence[Axes]) -> None:
    """Hide the labels of a panel that equal those of the panel to its left."""
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in strip]
    for axes, (left, right) in zip(strip[1:], pairwise(labels), strict=True):
        if left == right:
            axes.tick_params(axis="y", labelleft=False)


def _legend(rows: Sequence[ResultRow], comparable: bool) -> list[Line2D]:
    """Return the handles of the marks and bars in the figure."""
    kinds = {kind for kind, interval in map(_interval, rows) if interval}
    handles = [Line2D([], [], linestyle="none", label="ours", **OURS)]
    for kind, label in BAR_LABELS.items():
        if kind in kinds:
            handles.append(Line2D([], [], color=OURS["color"], label=label, **BARS[kind]))
    judgments = {row.gain.judgment for row in rows if row.gain}
    for mark in dict.fromkeys(mark for word, mark in JUDGMENT_MARKS.items() if word in judgments):
        label, style = MARK_LABELS[mark], MARK_STYLES[mark]
        handles.append(Line2D([], [], linestyle="none", label=label, **style))
    if comparable and any(row.published_gain is not None for row in rows):
        handles.append(Line2D([], [], linestyle="none", label="published", **PUBLISHED))
    return handles
