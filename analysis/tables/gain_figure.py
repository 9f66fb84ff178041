"""The gain figure: gains over the baselines, ours beside the published ones."""

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plotting.lettering import legible
from analysis.plotting.style import QUIET, STYLE, WIDTH
from analysis.statistics.seeds import Interval
from analysis.tables.formatting import metric_title
from analysis.tables.miniature import printable
from analysis.tables.notes import stand_ins
from analysis.tables.printed import distinct_label
from analysis.tables.rows import DONE, ResultRow, by_group

# Two of Okabe and Ito's colors; filled and hollow marks differ in gray, too.
OURS: dict[str, Any] = {"color": "#0072B2", "marker": "o", "markersize": 5}
PUBLISHED: dict[str, Any] = {"color": "#D55E00", "marker": "D", "markersize": 4.5, "mfc": "white"}
BARS: dict[str, dict[str, Any]] = {
    "gain": {"linewidth": 1.4},
    "image": {"linewidth": 1.0, "linestyle": (0, (1, 1))},
}
"""Line styles of intervals: over seeds, or over test images where only one seed was run."""
BAR_LABELS = {"gain": "95 % over seeds", "image": "95 % over images"}
PANELS_A_ROW = 2
LINE_HEIGHT = 0.32
"""Inches for one method."""
LABEL_LENGTH, TITLE_LENGTH, CAPTION_LENGTH = 28, 36, 110
"""Characters."""
CAPTION_HEIGHT = 0.13
"""Inches for one line."""
MARK = "†"
"""Mark of published gains under other conditions than ours, which the table lists."""
OFFSET = 0.18
"""Shift in lines: ours lie so far above the middle of a line, published ones below, so that
neither hides the other."""


def plot_gains(rows: Sequence[ResultRow]) -> Figure:
    """Return a panel for each group of a table's distilled rows; gains in points of its headline.

    Bars are intervals over seeds, else over images. A row without a gain shows its status.
    """
    distilled = [row for row in printable(rows) if row.kind == "distilled"]
    panels = by_group(distilled)
    across = min(len(panels), PANELS_A_ROW) or 1
    members = list(panels.values())
    strips = [members[start : start + across] for start in range(0, len(members), across)]
    heights = [max(map(len, strip)) + 1.6 for strip in strips] or [2.0]
    caption = _caption(distilled)
    with rc_context(STYLE):
        height = LINE_HEIGHT * sum(heights) + CAPTION_HEIGHT * (caption.count("\n") + 3) + 0.4
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        grid = figure.subplots(
            len(heights), across, squeeze=False, sharex=True, height_ratios=heights
        )
        for axes, (group, of_group) in zip(grid.flat, panels.items(), strict=False):
            _panel(axes, textwrap.fill(legible(group, 3 * TITLE_LENGTH), TITLE_LENGTH), of_group)
        for strip_axes in grid:
            _share_labels(strip_axes)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        if not panels:
            figure.text(0.5, 0.5, "no distilled row", ha="center", color=QUIET)
        figure.supxlabel(caption, fontsize=7)
        figure.legend(handles=_legend(distilled), loc="outside upper right", ncols=4, frameon=False)
    return figure


def _caption(rows: Sequence[ResultRow]) -> str:
    """Return the text under the axis: the quantity, the stand-ins, and the mark's meaning."""
    metric = metric_title(rows[0].metric) if rows else "AP"
    quantity = f"Gain over the student's own baseline ({metric} points)"
    differs = any(row.differs for row in rows)
    notes = [
        *stand_ins(rows),
        *([f"{MARK} published under other conditions than ours"] if differs else []),
    ]
    return "\n".join([quantity, *(textwrap.fill(note, CAPTION_LENGTH) for note in notes)])


def _panel(axes: Axes, title: str, rows: Sequence[ResultRow]) -> None:
    axes.set_title(title, loc="left")
    axes.axvline(0, color=QUIET, linewidth=0.8, zorder=1)
    published = [row.published_gain for row in rows]
    offset = 0.0 if published.count(None) == len(rows) else OFFSET
    heights = [index - offset for index in range(len(rows))]
    _draw_points(axes, "ours", [row.gain.mean if row.gain else None for row in rows], heights, OURS)
    _draw_bars(axes, rows, heights)
    heights = [index + offset for index in range(len(rows))]
    _draw_points(axes, "published", published, heights, PUBLISHED)
    axes.set_yticks(range(len(rows)), [_label(row, rows) for row in rows])
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


def _interval(row: ResultRow) -> tuple[str, Interval | None]:
    """Return kind and ends of a row's interval: over seeds, else over images."""
    if row.gain is None:
        return "", None
    if row.gain.over_seeds:
        return "gain", row.gain.over_seeds
    return "image", row.gain.over_images


def _label(row: ResultRow, rows: Sequence[ResultRow]) -> str:
    """Return a row's label, with its student where labels repeat and the reason for a gap."""
    label = distinct_label(row, rows) + (MARK if row.differs else "")
    if row.gain:
        return _wrapped(label, 2)
    reason = "no baseline" if row.status == DONE else row.status
    return f"{_wrapped(label, 1)}\n{_wrapped(reason, 1)}"


def _wrapped(text: str, lines: int) -> str:
    return "\n".join(textwrap.wrap(text, LABEL_LENGTH, max_lines=lines, placeholder=" ..."))


def _share_labels(strip: Sequence[Axes]) -> None:
    """Hide the labels of a panel that equal those of the panel to its left."""
    labels = [[text.get_text() for text in axes.get_yticklabels()] for axes in strip]
    for axes, (left, right) in zip(strip[1:], pairwise(labels), strict=True):
        if left == right:
            axes.tick_params(axis="y", labelleft=False)


def _legend(rows: Sequence[ResultRow]) -> list[Line2D]:
    """Return the handles of the marks and bars in the figure."""
    kinds = {kind for kind, interval in map(_interval, rows) if interval}
    handles = [Line2D([], [], linestyle="none", label="ours", **OURS)]
    for kind, label in BAR_LABELS.items():
        if kind in kinds:
            handles.append(Line2D([], [], color=OURS["color"], label=label, **BARS[kind]))
    if any(row.published_gain is not None for row in rows):
        handles.append(Line2D([], [], linestyle="none", label="published", **PUBLISHED))
    return handles
