"""Picture of example objects: their best priors over the image, and the scores of all priors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.rank_agreement.compute import CORNERS, ExampleObject
from analysis.plotting.overlay import DETECTION_COLOR, TRUTH_COLOR, draw_boxes, show_region
from analysis.plotting.panels import message_figure
from analysis.plotting.style import STYLE, WIDTH, Look, legend
from kd.common.lettering import legible
from kd.data import decoding

MOST_STUDENTS = 3
"""Students in the picture, the first ones."""
MARKS: tuple[tuple[Any, list[int]], ...] = (("-", [0, 1]), ("--", [2, 1]), (":", [0, 3]))
"""Dash of each of the best priors, and the corner of its number."""
ORDER = ("best prior of the run", "second", "third")
"""Legend entry of each dash."""
KEY = (
    "Number: rank of the prior by the teacher's score. "
    "Below: score in this run; * prior of the final box."
)
MARGIN = 4
"""Pixels around the boxes of a panel."""


def plot(
    examples: Sequence[ExampleObject],
    priors: pd.DataFrame,
    looks: Mapping[str, Look],
    classes: Sequence[str],
    score_name: str = "score",
) -> Figure:
    """Return a row for each object: the best priors of each run, and the scores of all priors.

    ``priors`` is the table of this name; ``looks`` are by run, with the teacher. The number of a
    prior is its rank by the teacher's score, in all panels.
    """
    if not examples:
        return message_figure("no object has two positive priors")
    run_names = [str(run) for run in priors["run"].unique()][: 1 + MOST_STUDENTS]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.7 * len(examples) + 0.9), layout="constrained")
        ratios = [*[1.0] * len(run_names), 1.35]
        grid = figure.subplots(len(examples), len(ratios), squeeze=False, width_ratios=ratios)
        for panels, example in zip(grid, examples, strict=True):
            lines = priors[
                (priors["image"] == example.image_number) & (priors["object"] == example.index)
            ]
            best = {
                run: lines[lines["run"] == run].nlargest(len(MARKS), "score") for run in run_names
            }
            region = _region(example, best)
            for axes, run in zip(panels, run_names, strict=False):
                _draw_priors(axes, example, best[run], region)
                axes.set_title(run, fontsize=8)
            _draw_scores(panels[-1], lines[lines["run"].isin(run_names)], looks)
            panels[-1].set_ylabel(score_name)
            label = int(example.image.labels[example.index])
            panels[-1].set_title(legible(classes[label]), fontsize=8)
        legend(figure, {run: looks[run] for run in run_names})
        _draw_key(figure)
    return figure


def _draw_key(figure: Figure) -> None:
    """Draw the key of the boxes, their numbers and the scores below the panels."""
    handles = [Line2D([], [], color=TRUTH_COLOR, label="object")] + [
        Line2D([], [], color=DETECTION_COLOR, linestyle=dash, label=label)
        for (dash, _), label in zip(MARKS, ORDER, strict=True)
    ]
    figure.legend(
        handles=handles, title=KEY, loc="outside lower center", ncols=len(handles),
        frameon=False, fontsize=7, title_fontsize=7,
    )  # fmt: skip


def _region(example: ExampleObject, best: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """Return the corners (4,) of the region with an object and all its priors in the picture."""
    boxes = [priors[CORNERS].to_numpy() for priors in best.values()]
    corners = np.concatenate([*boxes, example.image.boxes[example.index].numpy()[None]])
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    return np.concatenate([np.floor(low) - MARGIN, np.ceil(high) + MARGIN])


def _draw_priors(
    axes: Axes, example: ExampleObject, best: pd.DataFrame, region: np.ndarray
) -> None:
    """Draw the region of the image with the object, and a run's best priors with their numbers."""
    show_region(axes, decoding.load(Path(example.image.path)) / 255, region, gray=True)
    draw_boxes(axes, example.image.boxes[example.index].numpy()[None], TRUTH_COLOR)
    for (dash, corner), (_, line) in zip(MARKS, best.iterrows(), strict=False):
        box = line[CORNERS].to_numpy(float)
        draw_boxes(axes, box[None], DETECTION_COLOR, dash)
        x, y = box[corner]
        axes.text(
            x, y, str(int(line["rank"])), size=6, ha="center", va="center", color="white",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": DETECTION_COLOR, "edgecolor": "none"},
        )  # fmt: skip
    scores = [
        f"{rank}: {score:.2f}{'*' if final else ''}"
        for rank, score, final in zip(best["rank"], best["score"], best["final"], strict=True)
    ]
    axes.text(
        0.5, -0.04, "\n".join(scores), transform=axes.transAxes, ha="center", va="top", size=6
    )


def _draw_scores(axes: Axes, priors: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    """Draw the score of each positive prior over its rank by the teacher's score."""
    for run, lines in priors.groupby("run", sort=False):
        look = looks[str(run)]
        style = {"marker": look.marker, "markersize": 3, "linewidth": 1, **look.line}
        axes.plot(lines["rank"], lines["score"], **style)
    axes.set(xlabel="prior (the teacher's rank)", ylim=(0, None))
    axes.locator_params(axis="x", integer=True)
