"""Confusion matrix of detections and objects, matched without regard to class."""

from typing import NamedTuple

import numpy as np

from kd.evaluation.matching import UNMATCHED, Pairing, assign
from kd.evaluation.voc import Flags, Floats, Integers


class _Candidates(NamedTuple):
    """Pairs (P,) that may be matched, by detection in the order of scores."""

    detection: Integers
    object: Integers


def confusion_matrix(pairing: Pairing, iou: float, least_score: Floats) -> Integers:
    """Return (K + 1, K + 1): objects by class (rows) and the class of their detections (columns).

    Index K is the background: the last row counts detections without an object, the last column
    objects without a detection. ``least_score`` (K,) is the smallest score of the detections of
    each class that count; with NaN none do.

    By falling score, a detection of any class matches the free object with the highest IoU, if that
    is at least ``iou`` (``pairing.least_overlap`` or more). Of equal IoUs an object of the same
    class comes first. Crowds are no objects, and a detection that matches none is ignored if a
    crowd of its class covers it by ``iou`` or more.
    """
    detections, objects = pairing.detections, pairing.objects
    classes = len(pairing.classes)
    is_used = detections.score >= least_score[detections.label]
    rank = np.lexsort((detections.place, detections.image, -detections.score))
    candidates, in_crowd = _candidates(pairing, iou, is_used, np.argsort(rank))
    row = assign(
        candidates.detection,
        candidates.object,
        np.zeros(len(candidates.object), dtype=bool),
        len(rank),
        len(objects.label),
    )
    matched = np.full(len(rank), UNMATCHED)
    matched[rank[row != UNMATCHED]] = candidates.object[row[row != UNMATCHED]]
    counts = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    hits = matched != UNMATCHED
    np.add.at(counts, (objects.label[matched[hits]], detections.label[hits]), 1)
    stray = is_used & ~hits & ~in_crowd
    counts[classes, :classes] = np.bincount(detections.label[stray], minlength=classes)
    is_missed = ~objects.crowd
    is_missed[matched[hits]] = False
    counts[:classes, classes] = np.bincount(objects.label[is_missed], minlength=classes)
    return counts


def _candidates(
    pairing: Pairing, iou: float, is_used: Flags, position: Integers
) -> tuple[_Candidates, Flags]:
    """Return the pairs of the detections that count, and (D,) the detections in a crowd.

    ``position`` (D,) is a detection's place in the order of scores.
    """
    pairs, detections, objects = pairing.pairs, pairing.detections, pairing.objects
    is_crowd = objects.crowd[pairs.object]
    same = detections.label[pairs.detection] == objects.label[pairs.object]
    in_crowd = np.zeros(len(is_used), dtype=bool)
    in_crowd[pairs.detection[is_crowd & same & (pairs.cover >= iou)]] = True
    near = np.flatnonzero(is_used[pairs.detection] & ~is_crowd & (pairs.iou >= iou))
    near = near[np.lexsort((~same[near], -pairs.iou[near], position[pairs.detection[near]]))]
    return _Candidates(position[pairs.detection[near]], pairs.object[near]), in_crowd
