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

from itertools import pairwise

import numpy as np

from kd.evaluation.matching import Matches, Pairing
from kd.evaluation.voc import Flags, Floats

LRP_IOU = 0.5
"""IoU threshold of true positives in the papers."""
LRP, LOCALIZATION, FALSE_POSITIVES, FALSE_NEGATIVES, SCORE = range(5)
"""Rows of the results: oLRP, its components, and the score threshold, all 0 to 1."""


def optimal_lrp(
    pairing: Pairing, matches: Matches, iou: float = LRP_IOU, weights: Floats | None = None
) -> Floats:
    """Return (5, K, R): oLRP, its components and the score threshold of each class.

    ``iou`` is that of the matches. ``weights`` (I, R) are whole numbers, how often each image
    counts; by default once. Without a true positive oLRP and the share of missed objects are 1, and
    the rest is NaN. All are NaN for a class without objects. Of thresholds with equal LRP the
    highest is used.
    """
    image = pairing.detections.image
    weights = np.ones((len(pairing.images), 1)) if weights is None else weights
    bounds = np.searchsorted(pairing.detections.label, np.arange(len(pairing.classes) + 1))
    objects, right = np.flatnonzero(matches.counted_objects), matches.right
    values = np.full((5, len(pairing.classes), weights.shape[1]), np.nan)
    for label, (start, stop) in enumerate(pairwise(bounds.tolist())):
        rows = np.flatnonzero(~matches.ignored[start:stop]) + start
        of_class = objects[pairing.objects.label[objects] == label]
        counts = weights[pairing.objects.image[of_class]].sum(axis=0)
        columns = pairing.detections.score[rows], right[rows], matches.overlap[rows]
        values[:, label] = _class_lrp(*columns, weights[image[rows]], counts, iou)
        values[:, label, counts == 0] = np.nan
    return values


def _class_lrp(
    score: Floats, right: Flags, overlap: Floats, weights: Floats, objects: Floats, iou: float
) -> Floats:
    """Return (5, R) of detections (D,) by falling score, with ``weights`` (D, R).

    ``objects`` (R,) are the numbers of objects.
    """
    detected = np.cumsum(weights * right[:, None], axis=0)
    wrong = np.cumsum(weights, axis=0) - detected
    errors = np.cumsum(weights * np.where(right, 1 - overlap, 0.0)[:, None], axis=0)
    # Detections of equal score are above or below a threshold together.
    ends = np.flatnonzero(np.append(score[1:] < score[:-1], True)[: len(score)])
    detected, wrong, errors = detected[ends], wrong[ends], errors[ends]
    # Every missed object counts 1, so that N_TP + N_FN is the number of objects.
    lrp = (errors / (1 - iou) + wrong + objects - detected) / np.maximum(wrong + objects, 1)
    result = np.full((5, len(objects)), np.nan)
    result[[LRP, FALSE_NEGATIVES]] = 1.0
    (columns,) = np.nonzero((detected > 0).any(axis=0))
    if not columns.size:
        return result
    best = np.argmin(np.where(detected > 0, lrp, np.inf)[:, columns], axis=0)
    hits, misses = detected[best, columns], wrong[best, columns]
    result[LRP, columns] = lrp[best, columns]
    result[LOCALIZATION, columns] = errors[best, columns] / hits
    result[FALSE_POSITIVES, columns] = misses / (hits + misses)
    result[FALSE_NEGATIVES, columns] = 1 - hits / objects[columns]
    result[SCORE, columns] = score[ends[best]]
    return result


def class_means(values: Floats) -> Floats:
    """Return (4, R): means over the classes that define them; NaN without any.

    The means of oLRP and of missed objects are over the classes with objects, the others over the
    classes with a true positive.
    """
    values = values[:SCORE]
    defined = ~np.isnan(values)
    sums = np.where(defined, values, 0.0).sum(axis=1)
    return np.where(defined.any(axis=1), sums / np.maximum(defined.sum(axis=1), 1), np.nan)
