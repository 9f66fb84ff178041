"""Matching of detections to objects, shared by the evaluator and all error analyses.

``pair`` computes the overlaps within each image, between all classes. ``match`` assigns detections
to objects as pycocotools does (``COCOeval.evaluateImg``, version 2.0), for one IoU and one range of
areas. All data are columns of arrays, without loops over images, detections or objects.

Letters of shapes: D detections, G objects, P pairs, K classes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from kd.evaluation.detections import Detections, Objects, Results, read
from kd.evaluation.voc import Flags, Floats, Integers

LEAST_OVERLAP = 0.1
"""Smallest IoU of a pair: that of COCO's error analysis and of TIDE."""
MOST_DETECTIONS = 100
"""Detections of an image and class that count, those of the highest scores."""
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Ranges of areas in square pixels, both ends included, as in pycocotools."""
CHUNK = 1 << 19
"""Pairs whose overlaps are computed at a time, which bounds the memory."""
UNMATCHED = -1


@dataclass(frozen=True)
class SortedObjects:
    """Objects (G,) of all images as columns, by image, then in the order of the file.

    ``image`` and ``label`` are positions in ``Pairing.images`` and ``Pairing.classes``. ``box`` is
    (G, 4) xyxy in pixels, ``area`` is that of the file in square pixels, and ``place`` is the
    position among the annotations.
    """

    image: Integers
    label: Integers
    box: Floats
    area: Floats
    crowd: Flags
    place: Integers


@dataclass(frozen=True)
class RankedDetections:
    """Detections (D,) that count as columns, by label, falling score, image, order in the list.

    Detections of a label are consecutive, in the order of a precision-recall curve. ``image``,
    ``label`` and ``box`` are those of ``SortedObjects``, ``area`` is that of the box, and ``place``
    is the position in the list.
    """

    image: Integers
    label: Integers
    box: Floats
    area: Floats
    score: Floats
    place: Integers


@dataclass(frozen=True)
class Pairs:
    """Pairs (P,) of a detection and an overlapping object of the same image, by detection.

    Their classes may differ. The IoU, or the share of the detection that the object covers, is at
    least ``Pairing.least_overlap``. Pairs of one detection are in the order of the objects.
    """

    detection: Integers
    object: Integers
    iou: Floats
    cover: Floats
    """Intersection over the area of the detection, which pycocotools uses for crowds."""


@dataclass(frozen=True)
class CandidatePairs:
    """Pairs (P,) that may be matched, by detection, then by falling preference.

    ``shared`` objects are ignored and can match any number of detections. ``overlap`` is the IoU
    or cover that is compared with the threshold.
    """

    detection: Integers
    object: Integers
    overlap: Floats
    shared: Flags


@dataclass(frozen=True)
class Pairing:
    """Objects and detections of one run on one split, and their overlapping pairs."""

    images: list[Any]
    """Sorted ids of the images."""
    classes: list[str]
    objects: SortedObjects
    detections: RankedDetections
    pairs: Pairs
    least_overlap: float = LEAST_OVERLAP
    """Smallest IoU, or cover, of the pairs."""

    @cached_property
    def candidates(self) -> CandidatePairs:
        """Return the pairs of equal classes, which ordinary matching uses."""
        return candidates(self)


@dataclass(frozen=True)
class Matches:
    """Result of matching at one IoU in one range of areas."""

    object: Integers
    """(D,): position of the matched object, or -1."""
    overlap: Floats
    """(D,): IoU with the matched object (cover of an object that is shared), or 0."""
    ignored: Flags
    """(D,): detections that are neither true nor false positives."""
    counted_objects: Flags
    """(G,): objects that count; the others are ignored."""

    @property
    def right(self) -> Flags:
        """(D,): the true positives."""
        return (self.object != UNMATCHED) & ~self.ignored

    @property
    def wrong(self) -> Flags:
        """(D,): the false positives."""
        return (self.object == UNMATCHED) & ~self.ignored


def pair(
    ground_truth: Mapping[str, Any],
    detections: Results,
    least_overlap: float = LEAST_OVERLAP,
) -> Pairing:
    """Return the columns and overlaps of detections, over all categories of the file.

    At most 100 detections of an image and class count. Equal scores rank by image id, then by the
    order of the list. UserError as in ``kd.evaluation.detections.read``.
    """
    classes = [category["name"] for category in ground_truth["categories"]]
    images, truth, columns = read(ground_truth, detections, classes)
    return pair_columns(images, classes, truth, columns, least_overlap)


def pair_columns(
    images: list[Any],
    classes: list[str],
    truth: Objects,
    columns: Detections,
    least_overlap: float = LEAST_OVERLAP,
    any_class: bool = True,
) -> Pairing:
    """Return the pairing of columns that ``kd.evaluation.detections.read`` returned.

    With a ``least_overlap`` of 0 all overlapping pairs are included. Without ``any_class`` only
    pairs of one class are, which takes less time.
    """
    order = np.argsort(truth.image, kind="stable")
    objects = SortedObjects(
        truth.image[order],
        truth.label[order],
        truth.xyxy(order),
        truth.area[order],
        truth.crowd[order],
        order,
    )
    rows = _counted_rows(columns)
    ranked = RankedDetections(
        columns.image[rows],
        columns.label[rows],
        columns.xyxy(rows),
        _products(columns.box[:, 2:])[rows],
        columns.score[rows],
        rows,
    )
    object_area = _products(truth.box[:, 2:])[order]
    rivals = _rivals(ranked, objects, len(images), 1 if any_class else len(classes))
    pairs = _overlapping_pairs(ranked, objects, object_area, rivals, least_overlap)
    return Pairing(images, classes, objects, ranked, pairs, least_overlap)


def _counted_rows(columns: Detections) -> Integers:
    """Return the rows that count, by label, falling score, image, order in the list."""
    ranking = columns.ranking
    group = columns.label * (columns.image.max(initial=0) + 1) + columns.image
    is_crowded = np.bincount(group)[group] > MOST_DETECTIONS
    crowded = np.flatnonzero(is_crowded[ranking])
    by_group = crowded[np.argsort(group[ranking[crowded]], kind="stable")]
    groups = group[ranking[by_group]]
    # A detection's rank in its image and class: its place less that of the group's first one.
    beyond = np.arange(len(groups)) - np.searchsorted(groups, groups) >= MOST_DETECTIONS
    return np.delete(ranking, by_group[beyond])


def _products(sides: Floats) -> Floats:
    """Return the products (N,) of sides (N, 2)."""
    return sides[:, 0] * sides[:, 1]


class _Rivals(NamedTuple):
    """Objects that a detection is compared with: ``order[start]`` and the ``number`` - 1 next."""

    start: Integers
    """(D,)"""
    number: Integers
    """(D,)"""
    order: Integers
    """(G,)"""


def _rivals(
    detections: RankedDetections, objects: SortedObjects, images: int, classes: int
) -> _Rivals:
    """Return the objects of the same image, with more than one of ``classes`` of the same class."""
    key, object_key = (
        boxes.image * classes + (boxes.label if classes > 1 else 0)
        for boxes in (detections, objects)
    )
    counts = np.bincount(object_key, minlength=images * classes)
    starts = np.cumsum(counts) - counts
    return _Rivals(starts[key], counts[key], np.argsort(object_key, kind="stable"))


def _overlapping_pairs(
    detections: RankedDetections,
    objects: SortedObjects,
    object_area: Floats,
    rivals: _Rivals,
    least_overlap: float,
) -> Pairs:
    """Return all pairs; ``object_area`` (G,) are the areas of the objects' boxes."""
    parts = [
        _pairs_of(detections, objects, object_area, rows, rivals, least_overlap)
        for rows in _row_ranges(rivals.number)
    ]
    if not parts:
        return Pairs(*(np.empty(0, dtype) for dtype in (np.int64, np.int64, float, float)))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def _row_ranges(pair_counts: Integers) -> Iterator[slice]:
    """Yield ranges of detections with about ``CHUNK`` pairs in total; ``pair_counts`` is (D,)."""
    ends = np.cumsum(pair_counts)
    start = 0
    while start < len(pair_counts):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + CHUNK, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _pairs_of(
    detections: RankedDetections,
    objects: SortedObjects,
    object_area: Floats,
    rows: slice,
    rivals: _Rivals,
    least_overlap: float,
) -> tuple[Integers, Integers, Floats, Floats]:
    """Return the columns of ``Pairs`` for a range of detections."""
    repeats = rivals.number[rows]
    # Each detection is repeated for every object that it is compared with.
    detection = np.repeat(np.arange(rows.start, rows.stop), repeats)
    shift = rivals.start[rows] - (np.cumsum(repeats) - repeats)
    other = rivals.order[np.arange(len(detection)) + np.repeat(shift, repeats)]
    boxes, object_boxes = detections.box.take(detection, axis=0), objects.box.take(other, axis=0)
    low = np.maximum(boxes[:, :2], object_boxes[:, :2])
    high = np.minimum(boxes[:, 2:], object_boxes[:, 2:])
    sides = high - low
    overlaps = (sides[:, 0] > 0) & (sides[:, 1] > 0)
    detection, other = detection[overlaps], other[overlaps]
    intersection = _products(sides[overlaps])
    area = detections.area[detection]
    iou, cover = intersection / (area + object_area[other] - intersection), intersection / area
    near = np.maximum(iou, cover) >= least_overlap  # by rounding, an IoU may exceed its cover
    return detection[near], other[near], iou[near], cover[near]


def candidates(pairing: Pairing, tolerated: Flags | None = None) -> CandidatePairs:
    """Return the pairs of one class, and with ``tolerated`` also pairs of two classes.

    ``tolerated`` (K, K) is true at (i, j) if a detection of class i may match an object of class j.
    Such an object is treated as a crowd: it is ignored, shared, and its overlap is the cover.
    """
    pairs, objects = pairing.pairs, pairing.objects
    label, object_label = pairing.detections.label[pairs.detection], objects.label[pairs.object]
    same = label == object_label
    rows = np.flatnonzero(same if tolerated is None else same | tolerated[label, object_label])
    detection, other = pairs.detection[rows], pairs.object[rows]
    shared = objects.crowd[other] | ~same[rows]
    overlap = np.where(shared, pairs.cover[rows], pairs.iou[rows])
    near = overlap >= pairing.least_overlap
    detection, other, overlap, shared = detection[near], other[near], overlap[near], shared[near]
    # Pairs are by detection already, and most detections have one pair alone.
    several = np.flatnonzero(np.bincount(detection)[detection] > 1)
    # Among equal overlaps pycocotools prefers the last object.
    keys = (-other[several], -overlap[several], detection[several])
    order = np.arange(len(detection))
    order[several] = several[np.lexsort(keys)]
    return CandidatePairs(detection[order], other[order], overlap[order], shared[order])


def match(
    pairing: Pairing,
    iou: float = 0.5,
    area: tuple[float, float] = AREAS["all"],
    candidate_pairs: CandidatePairs | None = None,
) -> Matches:
    """Match detections to objects as pycocotools does: greedily, by falling score.

    A detection matches the free object with the highest overlap of at least ``iou``, which is
    ``pairing.least_overlap`` or more.
    It matches an ignored object, a crowd or one outside ``area``, only if no other is free. It is
    then ignored, as is an unmatched detection with an area outside. ``candidate_pairs`` replace
    ``pairing.candidates``.
    """
    detections, objects = pairing.detections, pairing.objects
    candidate_pairs = pairing.candidates if candidate_pairs is None else candidate_pairs
    counted_flags = counted_objects(objects, area)
    # pycocotools lowers a threshold of 1 by the same number.
    near = np.flatnonzero(candidate_pairs.overlap >= min(iou, 1 - 1e-10))
    ignored = candidate_pairs.shared[near] | ~counted_flags[candidate_pairs.object[near]]
    # By detection, counted objects before ignored ones; stable, so overlaps still fall.
    order = np.argsort(2 * candidate_pairs.detection[near] + ignored, kind="stable")
    near = near[order]
    row = assign(
        candidate_pairs.detection[near],
        candidate_pairs.object[near],
        candidate_pairs.shared[near],
        len(detections.score),
        len(objects.area),
    )
    is_matched = row != UNMATCHED
    matched_object = np.full(len(detections.score), UNMATCHED)
    pair_of_match = near[row[is_matched]]
    matched_object[is_matched] = candidate_pairs.object[pair_of_match]
    overlap = np.zeros(len(detections.score))
    overlap[is_matched] = candidate_pairs.overlap[pair_of_match]
    ignored_detections = _outside(detections.area, area)
    ignored_detections[is_matched] = ignored[order[row[is_matched]]]
    return Matches(matched_object, overlap, ignored_detections, counted_flags)


def counted_objects(objects: SortedObjects, area: tuple[float, float] = AREAS["all"]) -> Flags:
    """Return (G,): the objects that are not ignored in a range of areas."""
    return ~objects.crowd & ~_outside(objects.area, area)


def _outside(area: Floats, limits: tuple[float, float]) -> Flags:
    return (area < limits[0]) | (area > limits[1])


def assign(
    detection: Integers, preferred: Integers, shared: Flags, detections: int, objects: int
) -> Integers:
    """Return (D,) the row that greedy assignment in the order of detections gives each, or -1.

    Rows (P,) are by detection, then by falling preference. ``preferred`` is the object of a row,
    and ``shared`` rows are free for any number of detections. ``detections`` and ``objects`` are
    their numbers.

    All detections propose at once to the object of their next row. An object accepts the first
    detection in order and rejects the others, which then propose to the object of their following
    row. As all objects prefer the same order, the result is that of one assignment after the other
    (deferred acceptance, Gale and Shapley 1962), in as many rounds as the longest chain of
    conflicts.
    """
    ends = np.cumsum(np.bincount(detection, minlength=detections))
    row = np.concatenate([[0], ends[:-1]])[:detections]
    holder = np.full(objects, detections)  # of each object, the first detection so far
    proposers = np.flatnonzero(row < ends)
    while len(proposers):
        # A shared object accepts everyone, so its proposers are done.
        proposers = proposers[~shared[row[proposers]]]
        targets = preferred[row[proposers]]
        before = holder[targets]
        np.minimum.at(holder, targets, proposers)
        after = holder[targets]
        # A holder that gave way to an earlier detection proposes again, as do rejected proposers.
        replaced = before[(before != after) & (before < detections)]
        rejected = np.concatenate([proposers[after != proposers], np.unique(replaced)])
        row[rejected] += 1
        proposers = rejected[row[rejected] < ends[rejected]]
    return np.where(row < ends, row, UNMATCHED)
