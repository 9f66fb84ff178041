"""Average precision at one IoU as the Pascal VOC development kit defines it, for one class.

The semantics are those of ``mmdet.evaluation.functional.eval_map``, so that figures stay comparable
with the ones that papers report from mmdet's VOCMetric (http://host.robots.ox.ac.uk/pascal/VOC).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

# mmdet's grid, kept to the bit: its fourth value is 0.30000000000000004, so a recall of 3/10
# misses it, in mmdet as in the development kit.
ELEVEN_RECALLS = np.arange(0, 1 + 1e-3, 0.1)
SMALLEST_UNION = 1e-6


class Precision(NamedTuple):
    """Average precision (0 to 1) of one class in both VOC forms."""

    eleven_point: float
    """Mean precision at recall 0, 0.1, ..., 1: the form of VOC2007."""
    all_point: float
    """Area under the monotone precision-recall curve: the form since VOC2010."""


@dataclass(frozen=True)
class Truth:
    """Ground-truth boxes of one class: image (G,), box (G, 4) xyxy in pixels, ignored (G,).

    An image is a position from 0.
    """

    image: Integers
    box: Floats
    ignored: Flags


@dataclass(frozen=True)
class Found:
    """Detections of one class: image (D,) as of ``Truth``, box (D, 4) in pixels, score (D,)."""

    image: Integers
    box: Floats
    score: Floats


class Judged(NamedTuple):
    """What became of the detections (D,) of one class, by falling score."""

    order: Integers
    """Their positions in the list."""
    hit: Flags
    miss: Flags
    """False positives; what is neither fell on an ignored box."""


def average_precision(
    truth: Truth, found: Found, iou: float = 0.5, legacy: bool = True
) -> Precision | None:
    """Return the AP of one class, or None where it has no ground-truth box that counts.

    A detection belongs to the box it overlaps most, if by ``iou`` or more: an ignored
    (difficult) box takes it out of the count, a box already taken makes it a false positive.
    Equal scores are counted in the order of image, then of the list. ``legacy`` adds one pixel
    to each width and height, as the development kit and mmdet's VOCMetric do.
    """
    positives = int(np.count_nonzero(~truth.ignored))
    if positives == 0:
        return None
    judged = judge(truth, found, iou, legacy)
    hits, misses = np.cumsum(judged.hit), np.cumsum(judged.miss)
    recall = hits / positives
    precision = hits / np.maximum(hits + misses, 1)
    return Precision(_eleven_point(recall, precision), _all_point(recall, precision))


def judge(truth: Truth, found: Found, iou: float = 0.5, legacy: bool = True) -> Judged:
    """Return what ``average_precision`` is taken of."""
    order = np.lexsort((found.image, -found.score))
    found = Found(found.image[order], found.box[order], found.score[order])
    box, overlap = _best_boxes(truth, found, legacy)
    matched = overlap >= iou
    counted = matched & ~truth.ignored[box] if len(truth.box) else matched
    hit = np.zeros(len(box), dtype=bool)
    candidates = np.flatnonzero(counted)
    first = np.full(len(truth.box), len(box))
    np.minimum.at(first, box[candidates], candidates)
    hit[first[first < len(box)]] = True
    return Judged(order, hit, ~matched | (counted & ~hit))


def _best_boxes(truth: Truth, found: Found, legacy: bool) -> tuple[Integers, Floats]:
    """Return for each detection the index (D,) and IoU (D,) of the box it overlaps most."""
    # Ignored boxes last: where two boxes overlap a detection equally, the one that counts wins.
    order = np.lexsort((truth.ignored, truth.image))
    images = max(truth.image.max(initial=-1), found.image.max(initial=-1)) + 1
    counts = np.bincount(truth.image, minlength=images)
    start = np.cumsum(counts) - counts
    best, overlap = np.zeros(len(found.image), dtype=np.int64), np.full(len(found.image), -1.0)
    near = np.flatnonzero(counts[found.image])
    if len(near):
        count = counts[found.image[near]]
        first = np.cumsum(count) - count
        shift = start[found.image[near]] - first
        candidate = order[np.arange(count.sum()) + np.repeat(shift, count)]
        overlaps = pairwise_iou(found.box[np.repeat(near, count)], truth.box[candidate], legacy)
        overlap[near] = np.maximum.reduceat(overlaps, first)
        winners = np.flatnonzero(overlaps == np.repeat(overlap[near], count))
        # The first winner of each detection: one at or after its first candidate.
        best[near] = candidate[winners[np.searchsorted(winners, first)]]
    return best, overlap


def pairwise_iou(a: Floats, b: Floats, legacy: bool) -> Floats:
    """Return the IoU (P,) of boxes a[i] and b[i], both (P, 4) xyxy in pixels."""
    extra = 1.0 if legacy else 0.0
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    shared = _area(np.maximum(high - low + extra, 0))
    area_a, area_b = (_area(box[:, 2:] - box[:, :2] + extra) for box in (a, b))
    return shared / np.maximum(area_a + area_b - shared, SMALLEST_UNION)


def _area(sides: Floats) -> Floats:
    """Return (P,), the products of (P, 2)."""
    return sides[:, 0] * sides[:, 1]


def _eleven_point(recall: Floats, precision: Floats) -> float:
    ahead = _envelope(precision)
    reached = np.searchsorted(recall, ELEVEN_RECALLS, "left")
    return float(ahead[reached].sum() / len(ELEVEN_RECALLS))


def _all_point(recall: Floats, precision: Floats) -> float:
    return float((np.diff(recall, prepend=0.0) * _envelope(precision)[:-1]).sum())


def _envelope(precision: Floats) -> Floats:
    """Return the best precision from each point on, and 0 beyond the last."""
    return np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
