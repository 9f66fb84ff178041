"""Figures of resampled images, with the intervals that they give."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.matching.outcomes import Matched, Outcomes, read_arrays, read_matched, write_arrays
from analysis.statistics.bootstrap import (
    average_precision,
    percentile_interval,
    rank,
    resample,
    spread_ties,
    tally,
)
from analysis.statistics.seeds import POINTS, Interval
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.config.library import Library
from kd.evaluation.voc import ELEVEN_RECALLS, Floats
from kd.records import inputs

RESAMPLES, CONFIDENCE, SEED = 1000, 0.95, 0
FIGURES = ("AP", "AP50", "VOC07")
FILE = "resampled.npz"
ROUNDING = 1e-3
"""AP points: more than float32 takes off, less than other detections change."""


def write(directory: Path, library: Library) -> None:
    """Write ``resampled.npz`` of a run: 1 + 1000 values of each figure, in AP points, float32.

    The first is of the images as they are, the others of the same resamples for all runs of a test
    split. NaN where no object defines a figure; of a single image all but the first.
    """
    matched, depends = read_matched(directory, library)
    values = figures(matched, resample(matched.images, RESAMPLES, SEED))
    if matched.images < 2:
        for samples in values.values():
            samples[1:] = np.nan
    narrow = {name: (POINTS * samples).astype(np.float32) for name, samples in values.items()}
    write_arrays(directory / FILE, split=depends["data"], **narrow)
    inputs.record(directory, "resampling", depends)


def figures(matched: Matched, weights: Floats) -> dict[str, Floats]:
    """Return each of ``FIGURES``, (R,), 0 to 1, of images weighted in R ways (I, R).

    They are pycocotools' and ``kd.evaluation.voc``'s of a data set that has each image as often as
    it weighs, its copies beside each other in the order of ids; NaN where nothing is to be found.
    """
    coco = precisions(matched.coco, weights, matched.classes)
    (voc,) = precisions(matched.voc, weights, matched.classes, ELEVEN_RECALLS)
    return dict(zip(FIGURES, (coco.mean(axis=0), coco[0], voc), strict=True))


def precisions(outcomes: Outcomes, weights: Floats, classes: int, *recalls: Floats) -> Floats:
    """Return (Q, R): at each IoU the AP, 0 to 1, as the mean over classes that have objects.

    ``recalls``: of ``average_precision``, if others than COCO's.
    """
    size = (classes, len(weights))
    objects = tally(outcomes.object_image, outcomes.object_label, *size) @ weights
    defined = np.count_nonzero(objects, axis=0)
    values = np.full((len(outcomes.correct), weights.shape[1]), np.nan)
    for row, correct, ignored in zip(values, outcomes.correct, outcomes.ignored, strict=True):
        kept = ~ignored
        image, label, right, drawn = spread_ties(
            outcomes.image[kept], outcomes.label[kept], outcomes.score[kept], correct[kept], weights
        )
        ranked = rank(image, label, right, classes, len(drawn))
        total = average_precision(ranked, drawn, objects, *recalls).sum(axis=0)
        np.divide(total, defined, out=row, where=defined > 0)
    return values


def gain_interval(
    students: Mapping[int, Path], baselines: Mapping[int, Path], figure: str
) -> Interval | None:
    """Return the image interval of a gain in AP points: 95 % of the resamples, the seeds given.

    Both map a seed to a run; the gain is the mean over seeds that both have. None without a shared
    seed, and where a run of one has no samples or those of earlier detections than its metrics.
    UserError where runs are of different test splits.
    """
    shared = sorted(students.keys() & baselines.keys())
    gains = [_difference(students[seed], baselines[seed], figure) for seed in shared]
    found = [gain for gain in gains if gain is not None]
    if not found or len(found) < len(gains):
        return None
    low, high = percentile_interval(np.mean(found, axis=0)[None, 1:], CONFIDENCE)
    return None if np.isnan(low[0]) else Interval(float(low[0]), float(high[0]))


def _difference(student: Path, baseline: Path, figure: str) -> Floats | None:
    mine, theirs = (_current(run, figure) for run in (student, baseline))
    if mine is None or theirs is None:
        return None
    if mine["split"] != theirs["split"]:
        raise UserError(
            f"{student / FILE} and {baseline / FILE}: of different test splits; "
            "evaluate and resample both again"
        )
    return mine[figure].astype(np.float64) - theirs[figure]


def _current(run: Path, figure: str) -> dict[str, Any] | None:
    """Return a run's samples; None without any, or if the first is not what its metrics say."""
    path, metrics = run / FILE, run / "metrics.json"
    if not path.exists():
        return None
    resampled, evaluated = (
        inputs.recorded(run, step).get("detections") for step in ("resampling", "evaluation")
    )
    samples = read_arrays(path)
    stated = read_json(metrics)[figure] if metrics.exists() else None
    same = stated is None or abs(samples[figure][0] - POINTS * stated) < ROUNDING
    return samples if same and evaluated in (None, resampled) else None


def bootstrap_mean(
    values: pd.Series, image: pd.Series, weights: Floats
) -> tuple[float, float, float]:
    """Return the mean of those of ``values`` that are defined, and a bootstrap interval of it.

    ``image``: (n,) the image of each, from 0; ``weights``: of
    ``analysis.statistics.bootstrap.resample``. NaN where nothing is defined, and no interval with
    fewer than two images.
    """
    defined, images = values.notna(), len(weights)
    sums = np.bincount(image[defined], values[defined], images) @ weights
    counts = np.bincount(image[defined], minlength=images) @ weights
    with np.errstate(invalid="ignore"):
        means = sums / counts
    low, high = percentile_interval(means[None, 1:] if images > 1 else np.empty((1, 0)), CONFIDENCE)
    return float(means[0]), float(low[0]), float(high[0])
