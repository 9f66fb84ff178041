"""Calibration errors of detections: D-ECE and LaECE, from sums over equal bins of confidence.

A detector is calibrated if a detection of confidence p is right with probability p (D-ECE), or if
p is the IoU to be expected of it (LaECE). Both errors are weighted means of the gap between the
mean confidence of a bin and the mean of its target.

- D-ECE (Küppers et al., "Multivariate Confidence Calibration for Object Detection", CVPR Workshops
  2020, confidence alone): the target is 1 for a true positive and 0 otherwise, so its mean in a bin
  is the precision. All classes together.
- LaECE (Oksuz et al., "Towards Building Self-Aware Object Detectors via Reliable Uncertainty
  Quantification and Calibration", CVPR 2023): the target is the IoU of a true positive and 0
  otherwise, so its mean in a bin is precision times mean IoU. The mean over classes.
- LaECE0 (Kuzucu et al., "On Calibration of Object Detectors", ECCV 2024): LaECE with every
  overlapping match as a true positive, that is, at an IoU threshold of 0.

A detection that is ignored, because it lies in a crowd, is not part of any bin.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kd.evaluation.matching import Matches, Pairing
from kd.evaluation.voc import Floats, Integers

DECE_BINS, LAECE_BINS = 20, 25
"""Numbers of bins in the experiments of the papers."""


@dataclass(frozen=True)
class Reliability:
    """Sums over the detections of each group and bin of confidence, all (groups, bins)."""

    count: Integers
    confidence: Floats
    target: Floats

    @property
    def error(self) -> Floats:
        """(groups,): mean gap, weighted by the counts, 0 to 1; NaN for a group without detections.

        The gap of a bin is ``|mean confidence - mean target|``, so its weighted term is the
        difference of the sums by the number of all detections.
        """
        total = self.count.sum(axis=1)
        gaps = np.abs(self.confidence - self.target).sum(axis=1)
        return np.where(total > 0, gaps / np.maximum(total, 1), np.nan)


def reliability(
    score: Floats, target: Floats, group: Integers, groups: int, bins: int
) -> Reliability:
    """Sum detections (D,) by group and bin; scores below 0 or above 1 are in the end bins.

    A bin contains its lower end; the last one also contains 1.
    """
    place = np.clip((score * bins).astype(np.int64), 0, bins - 1) + group * bins
    sums = [np.bincount(place, weights, groups * bins) for weights in (score, target)]
    counts = np.bincount(place, minlength=groups * bins)
    confidence, targets = np.reshape(sums, (2, groups, bins)).astype(np.float64)
    return Reliability(counts.reshape(groups, bins), confidence, targets)


def precision_bins(pairing: Pairing, matches: Matches, bins: int = DECE_BINS) -> Reliability:
    """Return the bins of D-ECE, in one group."""
    rows = ~matches.ignored
    right = matches.right[rows].astype(np.float64)
    group = np.zeros(len(right), dtype=np.int64)
    return reliability(pairing.detections.score[rows], right, group, 1, bins)


def localization_bins(pairing: Pairing, matches: Matches, bins: int = LAECE_BINS) -> Reliability:
    """Return the bins of LaECE, with a group for each class."""
    rows = ~matches.ignored
    iou = np.where(matches.right, matches.overlap, 0.0)[rows]
    label = pairing.detections.label[rows]
    return reliability(pairing.detections.score[rows], iou, label, len(pairing.classes), bins)


def detection_ece(pairing: Pairing, matches: Matches, bins: int = DECE_BINS) -> float | None:
    """Return D-ECE, 0 to 1; None without detections."""
    return mean(precision_bins(pairing, matches, bins).error)


def localization_ece(pairing: Pairing, matches: Matches, bins: int = LAECE_BINS) -> float | None:
    """Return LaECE, 0 to 1: the mean over the classes with detections; None without any.

    The IoU threshold is that of the matches.
    """
    return mean(localization_bins(pairing, matches, bins).error)


def mean(values: Sequence[float] | Floats) -> float | None:
    """Return the mean of the numbers that are not NaN; None without any."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else None
