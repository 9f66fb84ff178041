"""How much a student's features differ from its teacher's where its predictions do: drawn."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.prediction_gap.compute import Gap, GapImage, likeness
from analysis.plotting.dots import note, panels, points, reference
from analysis.plotting.overlay import TRUTH, lay, outline, show
from analysis.plotting.style import STYLE, WIDTH, Look
from analysis.statistics.bootstrap import resample
from analysis.statistics.resampled import RESAMPLES, bootstrap_mean
from kd.evaluation.voc import Floats

MEASURES = {
    "pearson": "Pearson's r",
    "spearman": "Spearman's rho",
    "share": "share of $F_{dif}$",
}
COMPARED = 4
"""Students whose maps are drawn, the first ones."""
LABEL_LENGTH = 16
"""Characters."""
LINE_HEIGHT = 0.18
"""Inches for one run."""


def table(images: Iterable[GapImage], runs: Sequence[str]) -> pd.DataFrame:
    """Return a line per run, image and level: the measures of
    ``analysis.figures.prediction_gap.compute.Likeness``.
    """
    return pd.DataFrame(
        {"run": run, "image": number, "file": image.path.rpartition("/")[2], "level": level}
        | {"stride": gap.stride, "cells": gap.prediction.size}
        | {"p_dif": gap.prediction.mean(), "f_dif": gap.feature.mean()}
        | likeness(gap)._asdict()
        for number, image in enumerate(images)
        for run, gaps in zip(runs, image.students, strict=True)
        for level, gap in enumerate(gaps)
    )


def summary(lines: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return a line per run and level: each measure's mean over images, and its interval.

    ``lines``: of ``table``. ``undefined`` images are left out of the means. An interval is between
    percentiles of resampled images.
    """
    keys = ["run", "level", "stride"]
    weights = resample(lines["image"].nunique(), RESAMPLES, seed)
    return pd.DataFrame(
        dict(zip(keys, key, strict=True)) | _measured(of_level, weights)
        for key, of_level in lines.groupby(keys, sort=False)
    )


def _measured(lines: pd.DataFrame, weights: Floats) -> dict[str, float]:
    undefined = int(lines["pearson"].isna().sum())
    found: dict[str, float] = {"images": len(lines), "undefined": undefined}
    found |= {"p_dif": lines["p_dif"].mean(), "f_dif": lines["f_dif"].mean()}
    for measure in MEASURES:
        middle, low, high = bootstrap_mean(lines[measure], lines["image"], weights)
        found |= {measure: middle, f"{measure}_low": low, f"{measure}_high": high}
    return found


def plot(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    """Return a panel for each measure and each level where it is defined, a row for each run.

    ``frame``: of ``summary``. The dotted line is the first run's value.
    """
    levels = frame[frame["pearson"].notna()][["level", "stride"]].drop_duplicates().to_numpy()
    if not len(levels):
        return note("one of the maps is constant on every level")
    with rc_context(STYLE):
        runs = list(frame["run"].unique())
        figure, grid = panels(runs, len(MEASURES), len(levels), LINE_HEIGHT)
        for row, (measure, title) in zip(grid, MEASURES.items(), strict=True):
            for axes, (level, _) in zip(row, levels, strict=True):
                of_level = frame[frame["level"] == level]
                points(axes, of_level, measure, looks)
                reference(axes, of_level[measure].iloc[0])
                axes.set_xlabel(title, parse_math=True)
        for axes, (level, stride) in zip(grid[0], levels, strict=True):
            axes.set_title(f"level {level}\n(stride {stride})", fontsize=8)
    return figure


def plot_maps(images: Sequence[GapImage], runs: Sequence[str], level: int) -> Figure:
    """Return two rows for each image: P_dif of the first runs at a level, and below it F_dif.

    Each map is scaled from its smallest value to its largest; below it is how alike the two are.
    """
    runs = runs[:COMPARED]
    across = len(runs) + 1
    with rc_context(STYLE):
        width = WIDTH * min(across, 4) / 4
        sides = [image.picture.shape[0] / image.picture.shape[1] for image in images]
        heights = [side * (width / across - 0.1) + 0.15 for side in sides for _ in range(2)]
        figure = Figure(figsize=(width, sum(heights) + 0.2 * len(images)), layout="constrained")
        grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
        for axes in grid.flat:
            axes.axis("off")
        for image, upper, lower in zip(images, grid[::2], grid[1::2], strict=True):
            show(upper[0], image.picture)
            outline(upper[0], image.boxes, TRUTH)
            for place, (run, gaps) in enumerate(zip(runs, image.students, strict=False), start=1):
                _map(upper[place], image, gaps[level], gaps[level].prediction)
                _map(lower[place], image, gaps[level], gaps[level].feature)
                upper[place].set_title(textwrap.fill(run, LABEL_LENGTH), fontsize=8)
                _likeness(lower[place], gaps[level])
            for axes, name in ((upper[1], "P_dif"), (lower[1], "F_dif")):
                axes.annotate(
                    f"${name[0]}_{{{name[2:]}}}$", (-0.04, 0.5), xycoords="axes fraction",
                    rotation=90, ha="right", va="center", annotation_clip=False, parse_math=True,
                )  # fmt: skip
    return figure


def _map(axes: Axes, image: GapImage, gap: Gap, values: np.ndarray) -> None:
    low, high = values.min(), values.max()
    show(axes, image.picture, grey=True)
    lay(axes, values, low, high if high > low else low + 1, gap.stride)
    outline(axes, image.boxes, TRUTH)


def _likeness(axes: Axes, gap: Gap) -> None:
    alike = likeness(gap)
    text = (
        "undefined"
        if np.isnan(alike.pearson)
        else f"r {alike.pearson:.2f}, rho {alike.spearman:.2f}"
    )
    axes.text(0.5, -0.03, text, transform=axes.transAxes, ha="center", va="top", size=7)


def caption(frame: pd.DataFrame) -> str:
    """Return in words what ``summary`` found: Spearman's correlation of each run, by level."""
    runs = [
        f"{run} {', '.join(_shown(value) for value in of_run['spearman'])}"
        for run, of_run in frame.groupby("run", sort=False)
    ]
    left = int(frame["undefined"].sum())
    counted = f"; maps left out as one of them is constant: {left}" if left else ""
    strides = ", ".join(str(stride) for stride in frame["stride"].unique())
    return (
        f"Images: {frame['images'].max()}. Spearman's rho at the strides {strides}: "
        f"{'; '.join(runs)}{counted}."
    )


def _shown(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.2f}"
