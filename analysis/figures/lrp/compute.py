"""Tables of optimal LRP: runs and differences with intervals, and the thresholds of classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.matching.pairings import read_pairing
from analysis.runs.groups import RunGroup
from analysis.statistics.bootstrap import percentile_interval
from analysis.statistics.seeds import POINTS
from kd.evaluation.lrp import SCORE, class_means, optimal_lrp
from kd.evaluation.matching import match
from kd.evaluation.voc import Floats

MEASURES = ("oLRP", "localization", "false_positives", "missed")
CHUNK_CELLS = 1 << 24
"""Detections times resamples that are computed at a time, which bounds the memory."""


def compute_tables(
    groups: Sequence[RunGroup],
    truth: Mapping[str, Any],
    iou: float,
    weights: Floats,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """Return the means over the seeds of each group, their differences, and the values by class.

    ``weights`` (I, R) are those of ``bootstrap.resample``; intervals need several resamples.
    """
    points: dict[str, Floats] = {}
    classes: list[pd.DataFrame] = []
    for group in groups:
        means = []
        for seed, directory in group.runs.items():
            pairing = read_pairing(directory, truth)
            matches = match(pairing, iou)
            width = max(CHUNK_CELLS // max(len(pairing.detections.score), 1), 1)
            parts = [
                optimal_lrp(pairing, matches, iou, weights[:, start : start + width])
                for start in range(0, weights.shape[1], width)
            ]
            means.append(np.hstack([class_means(part) for part in parts]))
            numbers = parts[0][..., 0] * np.array([[POINTS]] * SCORE + [[1]])
            columns = dict(zip((*MEASURES, "score"), numbers, strict=True))
            names = {"run": group.label, "seed": seed, "class": pairing.classes}
            classes.append(pd.DataFrame({**names, **columns}))
        points[group.label] = POINTS * np.mean(means, axis=0)
    rows = [
        {"run": group.label, "seeds": len(group.runs)} | _intervals(points[group.label], confidence)
        for group in groups
    ]
    return {
        "lrp": pd.DataFrame(rows),
        "lrp-differences": differences(groups, points, confidence),
        "lrp-by-class": pd.concat(classes, ignore_index=True),
    }


def differences(
    groups: Sequence[RunGroup], points: Mapping[str, Floats], confidence: float
) -> pd.DataFrame:
    """Return each distilled student's measures less those of the first student trained alone.

    The resamples of ``points`` (4, R) have the same images for all groups.
    """
    ends = ("", "_low", "_high")
    columns = ["run", "baseline", *(name + end for name in MEASURES for end in ends)]
    baselines = [group.label for group in groups if group.role == "baseline"][:1]
    rows = [
        {"run": group.label, "baseline": baseline}
        | _intervals(points[group.label] - points[baseline], confidence)
        for baseline in baselines
        for group in groups
        if group.role == "distilled"
    ]
    return pd.DataFrame(rows, columns=columns)


def _intervals(points: Floats, confidence: float) -> dict[str, float]:
    """Return each measure with the ends of its interval, of ``points`` (4, R)."""
    columns: dict[str, float] = {}
    for name, values in zip(MEASURES, points, strict=True):
        (low,), (high,) = percentile_interval(values[None, 1:], confidence)
        columns |= {name: values[0], f"{name}_low": low, f"{name}_high": high}
    return columns
