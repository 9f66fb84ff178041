"""Precision-recall curves from matches, as pycocotools draws them (``COCOeval.accumulate``)."""

import numpy as np

from analysis.matching.matching import Matches, Pairing
from kd.evaluation.voc import Flags, Floats

RECALLS = np.linspace(0, 1, 101)
"""At which precision is read."""


def curves(pairing: Pairing, matches: Matches) -> Floats:
    """Return (K, 101): each class's precision at ``RECALLS``; NaN where it has nothing to find.

    Their mean over the recalls is the AP.
    """
    classes = np.arange(len(pairing.classes) + 1)
    bounds = np.searchsorted(pairing.detections.label, classes)
    positives = np.bincount(pairing.objects.label[matches.counted], minlength=len(classes) - 1)
    right, counts = matches.right, ~matches.ignored
    result = np.full((len(positives), len(RECALLS)), np.nan)
    for label in np.flatnonzero(positives):
        part = slice(bounds[label], bounds[label + 1])
        result[label] = _curve(right[part][counts[part]], positives[label])
    return result


def _curve(right: Flags, positives: int) -> Floats:
    """Return (101,) of detections by falling score, the ignored ones left out."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    # Beyond the recall that is reached, precision is 0.
    return np.append(highest, 0.0)[np.searchsorted(hits / positives, RECALLS)]
