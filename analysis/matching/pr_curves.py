"""Precision-recall curves from matches, as in pycocotools (``COCOeval.accumulate``)."""

import numpy as np

from kd.evaluation.matching import Matches, Pairing
from kd.evaluation.voc import Flags, Floats

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which precision is read."""


def curves(pairing: Pairing, matches: Matches) -> Floats:
    """Return (K, 101): each class's precision at ``RECALLS``; NaN for a class without objects.

    The mean over the recalls is the AP.
    """
    classes = np.arange(len(pairing.classes) + 1)
    # Detections are sorted by class: class k has the rows bounds[k] to bounds[k + 1].
    bounds = np.searchsorted(pairing.detections.label, classes)
    positives = np.bincount(
        pairing.objects.label[matches.counted_objects], minlength=len(classes) - 1
    )
    right, counts = matches.right, ~matches.ignored
    precisions = np.full((len(positives), len(RECALLS)), np.nan)
    for label in np.flatnonzero(positives):
        part = slice(bounds[label], bounds[label + 1])
        precisions[label] = _curve(right[part][counts[part]], positives[label])
    return precisions


def _curve(right: Flags, positives: int) -> Floats:
    """Return (101,) precisions of detections by falling score, without the ignored ones."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    # Interpolated precision: the highest at this recall or above.
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    # Precision is 0 beyond the highest recall.
    return np.append(highest, 0.0)[np.searchsorted(hits / positives, RECALLS)]
