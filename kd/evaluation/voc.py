"""Average precision at one IoU as the Pascal VOC development kit defines it, for one class.

The semantics are those of ``mmdet.evaluation.functional.eval_map``, so that AP stays comparable
with the values that papers report from mmdet's VOCMetric (http://host.robots.ox.ac.uk/pascal/VOC).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

# mmdet's grid, bit for bit: its fourth value is 0.30000000000000004, so a recall of 3/10
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
class ClassObjects:
    """Objects of one class: image (G,) as positions from 0, box (G, 4) xyxy in pixels, ignored."""

    image: Integers
    box: Floats
    ignored: Flags


@dataclass(frozen=True)
class ClassDetections:
    """Detections of one class: image (D,) as positions from 0, box (D, 4) xyxy, score (D,).

    They are by falling score; equal scores are by image, then by the order of the list.
    """

    image: Integers
    box: Floats
    score: Floats


class Judgment(NamedTuple):
    """Hits and misses (D,) among the detections of one class."""

    hit: Flags
    miss: Flags
    """False positives. A detection that is neither hit nor miss overlaps an ignored box."""


def average_precision(
    objects: ClassObjects, detections: ClassDetections, iou: float = 0.5, legacy: bool = True
) -> Precision | None:
    """Return the AP of one class; None without a ground-truth box that counts.

    A detection is matched with the box of the highest IoU, if that is at least ``iou``. A match
    with an ignored (difficult) box does not count; a second match of a box is a false positive.
    ``legacy`` adds one pixel to each width and height, as the development kit and mmdet's VOCMetric
    do.
    """
    positives = int(np.count_nonzero(~objects.ignored))
    if positives == 0:
        return None
    judged = judge(objects, detections, iou, legacy)
    # Each detection ends a prefix of the ranking, whose recall and precision are a point.
    hits, misses = np.cumsum(judged.hit), np.cumsum(judged.miss)
    recall = hits / positives
    precision = hits / np.maximum(hits + misses, 1)
    return Precision(_eleven_point(recall, precision), _all_point(recall, precision))


def judge(
    objects: ClassObjects, detections: ClassDetections, iou: float = 0.5, legacy: bool = True
) -> Judgment:
    """Return the hits and misses that ``average_precision`` is computed from."""
    box, overlap = _best_boxes(objects, detections, legacy)
    matched = overlap >= iou
    counts = matched & ~objects.ignored[box] if len(objects.box) else matched
    hit = np.zeros(len(box), dtype=bool)
    candidates = np.flatnonzero(counts)
    first = np.full(len(objects.box), len(box))
    # The first detection that matches a box is its hit.
    np.minimum.at(first, box[candidates], candidates)
    hit[first[first < len(box)]] = True
    return Judgment(hit, ~matched | (counts & ~hit))


def _best_boxes(
    objects: ClassObjects, detections: ClassDetections, legacy: bool
) -> tuple[Integers, Floats]:
    """Return index (D,) and IoU (D,) of the box that each detection overlaps most."""
    # Ignored boxes come last: of two boxes with equal IoU the one that counts is matched.
    order = np.lexsort((objects.ignored, objects.image))
    images = max(objects.image.max(initial=-1), detections.image.max(initial=-1)) + 1
    counts = np.bincount(objects.image, minlength=images)
    start = np.cumsum(counts) - counts
    best, overlap = (
        np.zeros(len(detections.image), dtype=np.int64),
        np.full(len(detections.image), -1.0),
    )
    # Detections whose image has objects, each with all objects of its image as candidates.
    near = np.flatnonzero(counts[detections.image])
    if len(near):
        count = counts[detections.image[near]]
        first = np.cumsum(count) - count
        shift = start[detections.image[near]] - first
        candidate = order[np.arange(count.sum()) + np.repeat(shift, count)]
        overlaps = pairwise_iou(
            detections.box.take(np.repeat(near, count), axis=0),
            objects.box.take(candidate, axis=0),
            legacy,
        )
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
    """Return the products (P,) of sides (P, 2)."""
    return sides[:, 0] * sides[:, 1]


def _eleven_point(recall: Floats, precision: Floats) -> float:
    ahead = _envelope(precision)
    # The first point that reaches a recall; beyond the last, precision is 0.
    first = np.searchsorted(recall, ELEVEN_RECALLS, "left")
    return float(ahead[first].sum() / len(ELEVEN_RECALLS))


def _all_point(recall: Floats, precision: Floats) -> float:
    return float((np.diff(recall, prepend=0.0) * _envelope(precision)[:-1]).sum())


def _envelope(precision: Floats) -> Floats:
    """Return the highest precision at or after each point, and 0 after the last."""
    return np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
