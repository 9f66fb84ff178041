"""Picture of final boxes: panels of the same part of an image, one for each run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from analysis.figures.final_anchors.compute import ANCHOR, BOX, CORNERS, TEACHER
from analysis.plotting.overlay import (
    DETECTION_COLOR,
    PRIOR_COLOR,
    PRIOR_DASH,
    TRUTH_COLOR,
    draw_boxes,
    show_region,
)
from analysis.plotting.style import QUIET, STYLE, WIDTH
from kd.common.lettering import legible
from kd.data import decoding

PANEL = WIDTH / 4
"""Width of a panel in inches; four fit beside each other."""
HEADING, KEY = 0.55, 0.3
"""Heights in inches of the texts of a panel, and of the key of the boxes."""
MARGIN = 0.08
"""Margin around the boxes of an object, as a share of the longer side of their region."""
RUN_LENGTH, CLASS_LENGTH = 22, 20
"""Characters of the name of a run, and of that of a class."""


def plot_figures(
    tables: Mapping[str, pd.DataFrame], paths: Mapping[int, Path], choose: Sequence[str]
) -> dict[str, Figure]:
    """Return the picture of the table of ``compute_tables``, by name."""
    frame = tables["final_anchors"]
    selected = frame[frame["chosen"] != ""]
    images = {
        int(number): decoding.load(paths[number]) / 255 for number in selected["image"].unique()
    }
    return {"final_anchors": plot(frame, images, choose)}


def plot(frame: pd.DataFrame, images: Mapping[int, np.ndarray], choose: Sequence[str]) -> Figure:
    """Return a block for each selected object: the teacher's panel, then that of each student.

    ``frame`` is the table of ``compute_tables``; ``images`` are (H, W, 3), 0 to 1, by number.
    Blocks of two runs are drawn in pairs, and a selection without an object as a sentence.
    """
    runs = [str(run) for run in frame["run"].unique()]
    pair = 2 if len(runs) == 2 else 1
    lines = [line for selection in choose for line in _lines(frame, selection, pair)]
    widest = max(1, *(len(blocks) for _, blocks in lines))
    heights = [KEY, *(PANEL + HEADING if blocks else 0.4 for _, blocks in lines)]
    with rc_context(STYLE):
        width = min(PANEL * len(runs) * widest, WIDTH)
        figure = Figure(figsize=(width, sum(heights)), layout="constrained")
        key, *parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).flat
        _draw_key(key, width)
        for part, (selection, blocks) in zip(parts, lines, strict=True):
            if not blocks:
                text = f"No object is {selection}; the caption has the rule."
                part.text(0.5, 0.5, text, ha="center", va="center", color=QUIET)
                continue
            for place, block in zip(
                part.subfigures(1, widest, squeeze=False).flat, blocks, strict=False
            ):
                _draw_object(place, block, runs, images)
    return figure


def _lines(frame: pd.DataFrame, selection: str, pair: int) -> list[tuple[str, list[pd.DataFrame]]]:
    """Return the lines of a selection, each with its blocks; one without a block if it is empty."""
    objects = [lines for _, lines in frame[frame["chosen"] == selection].groupby("rank")]
    starts = range(0, max(len(objects), 1), pair)
    return [(selection, objects[start : start + pair]) for start in starts]


def _draw_object(
    part: SubFigure, block: pd.DataFrame, runs: Sequence[str], images: Mapping[int, np.ndarray]
) -> None:
    """Draw the panels of an object; ``block`` has a line for each run."""
    first = block.iloc[0]
    region = region_of(block)
    name = legible(first["class"], CLASS_LENGTH)
    part.suptitle(f"{first['chosen'].capitalize()}: {name}", fontsize=8, fontweight="normal")
    lines = block.set_index("run")
    for axes, run in zip(part.subplots(1, len(runs), squeeze=False).flat, runs, strict=True):
        show_region(axes, images[int(first["image"])], region)
        draw_boxes(axes, first[CORNERS].to_numpy(float)[None], TRUTH_COLOR, cased=True)
        axes.set_title(legible(run, RUN_LENGTH), fontsize=8, pad=3)
        _draw_box(axes, run, lines.loc[run])


def _draw_box(axes: Axes, run: str, line: Any) -> None:
    """Draw the final box of a run and its prior, and below them its IoU and score."""
    if np.isnan(line["iou"]):
        axes.text(
            0.5, 0.03, "no final box", transform=axes.transAxes, ha="center", va="bottom", size=7,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
        )  # fmt: skip
        return
    anchor = line[ANCHOR].to_numpy(float)
    if (anchor[:2] == anchor[2:]).all():  # the prior of FCOS is a point
        axes.plot(*anchor[:2], marker="+", color=PRIOR_COLOR, markersize=7, markeredgewidth=1.5)
    else:
        draw_boxes(axes, anchor[None], PRIOR_COLOR, PRIOR_DASH, cased=True)
    draw_boxes(axes, line[BOX].to_numpy(float)[None], DETECTION_COLOR, cased=True)
    prior = (
        ""
        if run == TEACHER or np.isnan(line["same"])
        else ("\nthe teacher's prior" if line["same"] else "\nanother prior")
    )
    text = f"IoU {line['iou']:.2f}, score {line['score']:.2f}{prior}"
    axes.text(0.5, -0.03, text, transform=axes.transAxes, ha="center", va="top", size=6.5)


def region_of(block: pd.DataFrame) -> np.ndarray:
    """Return the square (4,), xyxy in pixels, with an object, its final boxes and their priors."""
    corners = np.concatenate([block[columns].to_numpy(float) for columns in (CORNERS, BOX, ANCHOR)])
    low, high = np.nanmin(corners[:, :2], axis=0), np.nanmax(corners[:, 2:], axis=0)
    half = (0.5 + MARGIN) * (high - low).max()
    return np.concatenate([(low + high) / 2 - half, (low + high) / 2 + half])


def _draw_key(part: SubFigure, width: float) -> None:
    """Draw the key of the boxes."""
    entries: tuple[tuple[str, str, Any], ...] = (
        ("object", TRUTH_COLOR, "-"),
        ("final box", DETECTION_COLOR, "-"),
        ("prior of the final box", PRIOR_COLOR, PRIOR_DASH),
    )
    handles = [
        Line2D([], [], color=color, linestyle=dash, label=label) for label, color, dash in entries
    ]
    part.legend(
        handles=handles, loc="center", ncols=3, frameon=False, fontsize=7 if width < 4 else 8
    )
