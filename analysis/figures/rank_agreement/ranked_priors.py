"""The best positive priors of chosen objects over the image, and the scores of all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures.rank_agreement.plot import Drawn
from analysis.plotting.dots import note
from analysis.plotting.lettering import legible
from analysis.plotting.overlay import FOUND, TRUTH, outline, show
from analysis.plotting.style import STYLE, WIDTH, Look, legend
from kd.data import decoding

TEACHER = "Teacher"
COMPARED = 3
"""Students that are drawn beside the teacher, the first ones."""
MARKS: tuple[tuple[str, list[int]], ...] = (("-", [0, 1]), ("--", [2, 1]), (":", [0, 3]))
"""How the best priors of each are drawn over the image: dash, and corner of the number."""
CORNERS = ["x1", "y1", "x2", "y2"]
MARGIN = 4
"""Pixels around what a panel shows."""


def priors(drawn: Sequence[Drawn], runs: Sequence[str]) -> pd.DataFrame:
    """Return a line per run (the teacher first), object and positive prior, with its score.

    ``rank``: the prior's place by the teacher's score, from 1; ``final``: whether the run's final
    box of the object was regressed from it. Corners are in pixels of the image file.
    """
    lines = []
    for each in drawn:
        image, index = each.image, each.index
        order = image.teacher.scores[index].argsort(descending=True, stable=True)
        for run, network in zip((TEACHER, *runs), (image.teacher, *image.students), strict=True):
            for rank, place in enumerate(order.tolist(), start=1):
                prior = int(image.positives[index][place])
                corners = image.anchors[index][place].tolist()
                lines.append(
                    {"run": run, "image": each.number, "object": index, "prior": image.place(prior)}
                    | {"rank": rank, "score": float(network.scores[index][place])}
                    | {"final": prior == int(network.prior[index])}
                    | dict(zip(CORNERS, corners, strict=True))
                )
    return pd.DataFrame(lines)


def plot(
    drawn: Sequence[Drawn],
    scores: pd.DataFrame,
    looks: Mapping[str, Look],
    classes: Sequence[str],
    what: str = "score",
) -> Figure:
    """Return a row for each object: its best priors by each run's score, and the scores of all.

    ``scores``: of ``priors``; ``looks``: by run, the teacher among them. A prior has one number in
    all panels, its rank by the teacher's score. ``what``: the score's name on its axis.
    """
    if not drawn:
        return note("no object has two positive priors")
    runs = [str(run) for run in scores["run"].unique()][: 1 + COMPARED]
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.7 * len(drawn) + 0.5), layout="constrained")
        ratios = [*[1.0] * len(runs), 1.35]
        grid = figure.subplots(len(drawn), len(ratios), squeeze=False, width_ratios=ratios)
        for strip, each in zip(grid, drawn, strict=True):
            mine = scores[(scores["image"] == each.number) & (scores["object"] == each.index)]
            best = {run: mine[mine["run"] == run].nlargest(len(MARKS), "score") for run in runs}
            for axes, run in zip(strip, runs, strict=False):
                _crop(axes, each, best[run], _around(each, best))
                axes.set_title(run, fontsize=8)
            _curves(strip[-1], mine[mine["run"].isin(runs)], looks)
            strip[-1].set_ylabel(what)
            strip[-1].set_title(legible(classes[int(each.image.labels[each.index])]), fontsize=8)
        legend(figure, {run: looks[run] for run in runs})
    return figure


def _around(each: Drawn, best: Mapping[str, pd.DataFrame]) -> np.ndarray:
    """Return the region (4,) that holds an object and all priors that are drawn of it."""
    boxes = [of_run[CORNERS].to_numpy() for of_run in best.values()]
    corners = np.concatenate([*boxes, each.image.boxes[each.index].numpy()[None]])
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    return np.concatenate([np.floor(low) - MARGIN, np.ceil(high) + MARGIN])


def _crop(axes: Axes, each: Drawn, best: pd.DataFrame, region: np.ndarray) -> None:
    """Draw the region of the image with the object, and a run's best priors with their numbers."""
    picture = Image.fromarray(decoding.load(Path(each.image.path)))
    left, top, right, bottom = region
    part = np.maximum([left, top], 0), np.minimum([right, bottom], picture.size)
    pixels = np.asarray(picture.crop((*part[0], *part[1]))) / 255
    show(axes, pixels, grey=True)
    origin = np.tile(part[0], 2)
    axes.set(xlim=(left - origin[0], right - origin[0]), ylim=(bottom - origin[1], top - origin[1]))
    outline(axes, each.image.boxes[each.index].numpy()[None] - origin, TRUTH)
    for (dash, corner), (_, line) in zip(MARKS, best.iterrows(), strict=False):
        box = line[CORNERS].to_numpy(float) - origin
        outline(axes, box[None], FOUND, dash)
        x, y = box[corner]
        axes.text(
            x, y, str(int(line["rank"])), size=6, ha="center", va="center", color="white",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": FOUND, "edgecolor": "none"},
        )  # fmt: skip
    scores = [
        f"{rank}: {score:.2f}{'*' if final else ''}"
        for rank, score, final in zip(best["rank"], best["score"], best["final"], strict=True)
    ]
    axes.text(
        0.5, -0.04, "\n".join(scores), transform=axes.transAxes, ha="center", va="top", size=6
    )


def _curves(axes: Axes, scores: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    """Draw the score of each positive prior, by the teacher's rank of it."""
    for run, of_run in scores.groupby("run", sort=False):
        axes.plot(of_run["rank"], of_run["score"], **_curve(looks[str(run)]))
    axes.set(xlabel="prior (the teacher's rank)", ylim=(0, None))
    axes.locator_params(axis="x", integer=True)


def _curve(look: Look) -> dict[str, Any]:
    return {"marker": look.marker, "markersize": 3, "linewidth": 1, **look.line}
