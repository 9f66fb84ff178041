"""Metrics of resampled test images, and the intervals computed from them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.matching.outcomes import (
    MatchedRun,
    Outcomes,
    read_arrays,
    read_matched_run,
    write_arrays,
)
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
from kd.common.results import results_folder
from kd.config.library import Library
from kd.data.entry import SplitName
from kd.evaluation.voc import ELEVEN_RECALLS, Floats
from kd.records import inputs

RESAMPLES, CONFIDENCE, SEED = 1000, 0.95, 0
METRICS = ("AP", "AP50", "VOC07")
FILE = "resampled.npz"
ROUNDING_POINTS = 1e-3
"""AP points: above the rounding of float32, below the effect of other detections."""


def write(directory: Path, library: Library, split: SplitName = "test") -> Path:
    """Write ``resampled.npz`` of a run: 1 + 1000 values of each metric, in AP points, float32.

    Return its path. The first value is that of the split, the others are those of resamples, the
    same for all runs of a split. Values are NaN where no object defines the metric, and in all
    resamples of a split of one image.
    """
    matched, depends = read_matched_run(directory, library, split)
    folder = results_folder(directory, split)
    write_arrays(folder / FILE, split=depends["data"], **samples_of(matched))
    inputs.record(folder, "resampling", depends)
    return folder / FILE


def samples_of(matched: MatchedRun) -> dict[str, Floats]:
    """Return the values in ``resampled.npz`` of matched detections, by metric (``write``)."""
    samples_by_metric = metrics(matched, resample(matched.images, RESAMPLES, SEED))
    if matched.images < 2:
        # Every resample equals the split, which would look like an interval of width 0.
        for samples in samples_by_metric.values():
            samples[1:] = np.nan
    return {
        name: (POINTS * samples).astype(np.float32) for name, samples in samples_by_metric.items()
    }


def metrics(matched: MatchedRun, weights: Floats) -> dict[str, Floats]:
    """Return each of ``METRICS``, (R,), 0 to 1, of images weighted in R ways (I, R).

    They equal those of pycocotools and ``kd.evaluation.voc`` for a data set that repeats each image
    as often as its weight, with copies next to each other in the order of ids. NaN without objects.
    """
    coco = precisions(matched.coco, weights, matched.classes)
    (voc,) = precisions(matched.voc, weights, matched.classes, ELEVEN_RECALLS)
    return dict(zip(METRICS, (coco.mean(axis=0), coco[0], voc), strict=True))


def precisions(outcomes: Outcomes, weights: Floats, classes: int, *recalls: Floats) -> Floats:
    """Return (Q, R): AP at each IoU, 0 to 1, the mean over classes that have objects.

    ``recalls``: those of ``average_precision``, by default COCO's.
    """
    defined = np.count_nonzero(_objects(outcomes, weights, classes), axis=0)
    mean_ap = np.full((len(outcomes.correct), weights.shape[1]), np.nan)
    for row, ap in zip(mean_ap, _by_iou(outcomes, weights, classes, *recalls), strict=True):
        # A class without objects in a resample adds 0 to the total and is not counted.
        np.divide(ap.sum(axis=0), defined, out=row, where=defined > 0)
    return mean_ap


def class_precisions(outcomes: Outcomes, weights: Floats, classes: int) -> Floats:
    """Return (K, R): AP of each class, 0 to 1, the mean over the IoUs; NaN without objects."""
    objects = _objects(outcomes, weights, classes)
    total = np.zeros(objects.shape)
    for ap in _by_iou(outcomes, weights, classes):
        total += ap
    return np.where(objects > 0, total / len(outcomes.correct), np.nan)


def _objects(outcomes: Outcomes, weights: Floats, classes: int) -> Floats:
    """Return (K, R): the objects of each class in each resample."""
    size = (classes, len(weights))
    objects: Floats = tally(outcomes.object_image, outcomes.object_label, *size) @ weights
    return objects


def _by_iou(
    outcomes: Outcomes, weights: Floats, classes: int, *recalls: Floats
) -> Iterator[Floats]:
    """Yield (K, R) for each IoU: AP of each class, 0 without objects."""
    objects = _objects(outcomes, weights, classes)
    for correct, ignored in zip(outcomes.correct, outcomes.ignored, strict=True):
        count = ~ignored
        image, label, hit, image_weights = spread_ties(
            outcomes.image[count],
            outcomes.label[count],
            outcomes.score[count],
            correct[count],
            weights,
        )
        ranked = rank(image, label, hit, classes, len(image_weights))
        yield average_precision(ranked, image_weights, objects, *recalls)


def image_interval(samples: Floats) -> Interval | None:
    """Return the 95 % interval over images of the mean gain, in AP points.

    ``samples``: (S, 1 + R) of ``gain_samples``. None if a resample is undefined.
    """
    low, high = percentile_interval(samples.mean(axis=0)[None, 1:], CONFIDENCE)
    return None if np.isnan(low[0]) else Interval(float(low[0]), float(high[0]))


def gain_samples(
    students: Mapping[int, Path], baselines: Mapping[int, Path], metric: str
) -> Floats | None:
    """Return (S, 1 + R): the gain of each shared seed on the test split and on each resample.

    In AP points. Both arguments map a seed to a run; seeds that only one of them has are left out.
    None without a shared seed, and if a run has no samples or samples of other detections than its
    metrics. UserError for runs of different test splits.
    """
    shared = sorted(students.keys() & baselines.keys())
    gains = [_gain_samples(students[seed], baselines[seed], metric) for seed in shared]
    samples = [gain for gain in gains if gain is not None]
    return np.array(samples) if samples and len(samples) == len(gains) else None


def _gain_samples(student: Path, baseline: Path, metric: str) -> Floats | None:
    student_samples, baseline_samples = (
        current_samples(run, metric) for run in (student, baseline)
    )
    if student_samples is None or baseline_samples is None:
        return None
    if student_samples["split"] != baseline_samples["split"]:
        raise UserError(
            f"{student / FILE} and {baseline / FILE}: of different test splits; "
            "evaluate and resample both again"
        )
    return student_samples[metric].astype(np.float64) - baseline_samples[metric]


def current_samples(run: Path, metric: str) -> dict[str, Any] | None:
    """Return a run's samples; None without any, or if the first differs from its metrics."""
    path, metrics_file = run / FILE, run / "metrics.json"
    if not path.exists():
        return None
    resampled, evaluated = (
        inputs.recorded(run, step).get("detections") for step in ("resampling", "evaluation")
    )
    samples = read_arrays(path)
    measured = read_json(metrics_file)[metric] if metrics_file.exists() else None
    # The first sample is the whole split, so it equals the metric unless detections changed.
    same = measured is None or abs(samples[metric][0] - POINTS * measured) < ROUNDING_POINTS
    return samples if same and evaluated in (None, resampled) else None


def bootstrap_mean(
    values: pd.Series, image: pd.Series, weights: Floats
) -> tuple[float, float, float]:
    """Return the mean of the defined ``values``, and the ends of its bootstrap interval.

    ``image``: (n,) the image of each value, from 0; ``weights``: of
    ``analysis.statistics.bootstrap.resample``. NaN without a defined value; with fewer than two
    images the ends are NaN.
    """
    defined, images = values.notna(), len(weights)
    sums = np.bincount(image[defined], values[defined], images) @ weights
    counts = np.bincount(image[defined], minlength=images) @ weights
    with np.errstate(invalid="ignore"):
        means = sums / counts
    # The first weighting counts every image once and gives the mean itself.
    low, high = percentile_interval(means[None, 1:] if images > 1 else np.empty((1, 0)), CONFIDENCE)
    return float(means[0]), float(low[0]), float(high[0])
