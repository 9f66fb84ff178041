"""Optimal LRP (localization, recall, precision), and its three components, of each class.

LRP of the detections with a score of at least s is their mean error, over all true positives, false
positives and missed objects:

    LRP(s) = (sum over true positives of (1 - IoU) / (1 - tau) + N_FP + N_FN) / (N_TP + N_FP + N_FN)

with the IoU threshold tau of a true positive. It is 0 for a perfect detector and at most 1. oLRP is
the lowest LRP over s. Its components, at that s, are the mean 1 - IoU of the true positives (at
most 1 - tau), the share of false positives in the detections (1 - precision), and the share of
missed objects (1 - recall).

Source: Oksuz et al., "Localization Recall Precision (LRP): A New Performance Metric for Object
Detection", ECCV 2018; "One Metric to Measure Them All: Localisation Recall Precision (LRP) for
Evaluating Visual Detection Tasks", TPAMI 2021. The lowest LRP is computed over all scores that
occur. A grid of scores, such as 0, 0.01, ..., 1, gives the same or a higher value.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kd.evaluation.calibration import mean
from kd.evaluation.matching import Matches, Pairing
from kd.evaluation.voc import Flags, Floats

LRP_IOU = 0.5
"""IoU threshold of true positives in the papers."""


class ClassLrp(NamedTuple):
    """oLRP of one class, its components, and the score threshold, all 0 to 1.

    Without a true positive oLRP and the share of missed objects are 1, and the rest is NaN. All are
    NaN for a class without objects.
    """

    lrp: float
    localization: float
    false_positives: float
    false_negatives: float
    score: float
    """Lowest score of a detection at the lowest LRP."""


@dataclass(frozen=True)
class OptimalLrp:
    """oLRP and its components, means over classes; None without a class that defines them."""

    lrp: float | None
    localization: float | None
    false_positives: float | None
    false_negatives: float | None
    classes: list[ClassLrp]


UNDEFINED = ClassLrp(*[np.nan] * 5)
UNDETECTED = ClassLrp(1.0, np.nan, np.nan, 1.0, np.nan)


def optimal_lrp(pairing: Pairing, matches: Matches, iou: float = LRP_IOU) -> OptimalLrp:
    """Return oLRP from the matches at ``iou``.

    The means of oLRP and of missed objects are over the classes with objects, the others over the
    classes with a true positive.
    """
    bounds = np.searchsorted(pairing.detections.label, np.arange(len(pairing.classes) + 1))
    labels = pairing.objects.label[matches.counted_objects]
    objects = np.bincount(labels, minlength=len(pairing.classes)).tolist()
    score = pairing.detections.score
    classes = []
    for count, start, stop in zip(objects, bounds[:-1], bounds[1:], strict=True):
        rows = np.flatnonzero(~matches.ignored[start:stop]) + start
        columns = score[rows], matches.right[rows], matches.overlap[rows]
        classes.append(_class_lrp(*columns, count, iou) if count else UNDEFINED)
    return OptimalLrp(
        mean([entry.lrp for entry in classes]),
        mean([entry.localization for entry in classes]),
        mean([entry.false_positives for entry in classes]),
        mean([entry.false_negatives for entry in classes]),
        classes,
    )


def _class_lrp(score: Floats, right: Flags, overlap: Floats, objects: int, iou: float) -> ClassLrp:
    """Return oLRP of detections by falling score, without the ignored ones."""
    detected = np.cumsum(right)
    wrong = np.arange(1, len(score) + 1) - detected
    errors = np.cumsum(np.where(right, 1 - overlap, 0.0))
    # Every missed object counts 1, so that N_TP + N_FN is the number of objects.
    values = (errors / (1 - iou) + wrong + objects - detected) / (wrong + objects)
    # Detections of equal score are above or below a threshold together.
    ends = np.flatnonzero(np.append(score[1:] < score[:-1], True)[: len(score)])
    ends = ends[detected[ends] > 0]
    if not len(ends):
        return UNDETECTED
    best = ends[np.argmin(values[ends])]  # of equal values that of the highest score
    return ClassLrp(
        float(values[best]),
        float(errors[best] / detected[best]),
        float(wrong[best] / (best + 1)),
        float(1 - detected[best] / objects),
        float(score[best]),
    )
