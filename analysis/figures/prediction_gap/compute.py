"""Tables of the prediction gap: similarity of both gaps by image and level, and their means."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.figures.prediction_gap.gaps import GapImage, apart_share, marks, similarity
from analysis.statistics.bootstrap import resample
from analysis.statistics.resampled import RESAMPLES, bootstrap_mean
from kd.common.errors import UserError
from kd.evaluation.voc import Floats

MEASURES = ("pearson", "spearman", "share")
MOST_MARKS = 3
"""Marks of a map, those of the largest F_dif."""
CORNERS = ["x1", "y1", "x2", "y2"]


def compute_tables(
    images: Iterable[GapImage], run_names: Sequence[str], example_count: int, level: int, seed: int
) -> tuple[dict[str, pd.DataFrame], list[GapImage]]:
    """Return the means by run and level, a line for each image, and the first images.

    UserError if the neck lacks ``level``.
    """
    examples: list[GapImage] = []
    frames = []
    for number, image in enumerate(images):
        levels = len(image.students[0])
        if level >= levels:
            raise UserError(f"'level': {level}, but the neck has levels 0 to {levels - 1}")
        if number < example_count:
            examples.append(image)
        frames.append(image_lines(image, number, run_names))
    lines = pd.concat(frames, ignore_index=True)
    tables = {
        "prediction_gap": summary(lines, seed),
        "prediction_gap-images": lines,
        "prediction_gap-marks": mark_lines(examples, run_names, level),
    }
    return tables, examples


def image_lines(image: GapImage, number: int, run_names: Sequence[str]) -> pd.DataFrame:
    """Return a line for each run and level of an image: means and similarity of both gaps."""
    return pd.DataFrame(
        {"run": run, "image": number, "file": image.path.rpartition("/")[2], "level": level}
        | {"stride": gap.stride, "cells": gap.prediction.size}
        | {"p_dif": gap.prediction.mean(), "f_dif": gap.feature.mean()}
        | similarity(gap)._asdict()
        | {"apart": apart_share(gap)}
        for run, gaps in zip(run_names, image.students, strict=True)
        for level, gap in enumerate(gaps)
    )


def mark_lines(images: Sequence[GapImage], run_names: Sequence[str], level: int) -> pd.DataFrame:
    """Return a line for each mark of the images' maps at a level, by image and run."""
    keys = ["run", "image", "mark", "cells", "p_dif", "f_dif", *CORNERS]
    lines = [
        [run, number, rank, mark.cells, mark.prediction, mark.feature, *mark.box]
        for number, image in enumerate(images)
        for run, gaps in zip(run_names, image.students, strict=True)
        for rank, mark in enumerate(marks(gaps[level], MOST_MARKS), start=1)
    ]
    return pd.DataFrame(lines, columns=keys)


def summary(lines: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return a line for each run and level: the mean of each measure, and its interval.

    ``lines`` are those of all images. ``undefined`` images are left out of the means. Intervals
    are percentiles of resampled images.
    """
    keys = ["run", "level", "stride"]
    weights = resample(lines["image"].nunique(), RESAMPLES, seed)
    return pd.DataFrame(
        dict(zip(keys, key, strict=True)) | _level_columns(level_lines, weights)
        for key, level_lines in lines.groupby(keys, sort=False)
    )


def _level_columns(lines: pd.DataFrame, weights: Floats) -> dict[str, float]:
    undefined = int(lines["pearson"].isna().sum())
    columns: dict[str, float] = {"images": len(lines), "undefined": undefined}
    columns |= {"p_dif": lines["p_dif"].mean(), "f_dif": lines["f_dif"].mean()}
    columns |= {"apart": lines["apart"].mean()}
    for measure in MEASURES:
        middle, low, high = bootstrap_mean(lines[measure], lines["image"], weights)
        columns |= {measure: middle, f"{measure}_low": low, f"{measure}_high": high}
    return columns


def describe(frame: pd.DataFrame) -> str:
    """Return a sentence with Spearman's correlation of each run by level, of ``summary``."""
    runs = [
        f"{run} {', '.join(_in_words(value) for value in lines['spearman'])}"
        for run, lines in frame.groupby("run", sort=False)
    ]
    undefined = int(frame["undefined"].sum())
    omission = f"; pairs left out because a map is constant: {undefined}" if undefined else ""
    strides = ", ".join(str(stride) for stride in frame["stride"].unique())
    return (
        f"Images: {frame['images'].max()}. Spearman's rho at the strides {strides}: "
        f"{'; '.join(runs)}{omission}."
    )


def describe_marks(frame: pd.DataFrame, level: int) -> str:
    """Return a sentence with the share of cells at a level that are apart, of ``summary``."""
    lines = frame[frame["level"] == level]
    shares = ", ".join(
        f"{run} {_in_words(share)}" for run, share in zip(lines["run"], lines["apart"], strict=True)
    )
    return f"Share of these cells among those with the highest F_dif: {shares}."


def _in_words(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.2f}"
