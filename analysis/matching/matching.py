"""Which detection is which object: found once for a run, shared by every analysis of errors.

``pair`` lists what overlaps in an image, of any class; ``match`` assigns detections to objects as
pycocotools does (``COCOeval.evaluateImg``, version 2.0), for one IoU and one range of areas.
Everything is columns: no loop over images, detections or objects.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kd.evaluation.detections import Detection, read
from kd.evaluation.evaluate import read_detections
from kd.evaluation.voc import Flags, Floats, Integers

LEAST_OVERLAP = 0.1
"""The smallest IoU at which anything is matched here: that of COCO's analysis and of TIDE."""
MOST_DETECTIONS = 100
"""Of an image and class; those of lower scores do not count."""
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""Square pixels, both ends included, as in pycocotools."""
CHUNK = 1 << 19
"""Pairs whose overlaps are computed at a time."""
UNMATCHED = -1


@dataclass(frozen=True)
class Objects:
    """The objects (G,) of all images, by image, then in the order of the file.

    ``image`` and ``label`` are positions in ``Pairing.images`` and ``Pairing.classes``; ``box`` is
    (G, 4) xyxy in pixels; ``area`` square pixels as the file has it; ``place`` the position among
    the annotations.
    """

    image: Integers
    label: Integers
    box: Floats
    area: Floats
    crowd: Flags
    place: Integers


@dataclass(frozen=True)
class Detections:
    """The detections (D,) that count, by label, falling score, image, order in the list.

    So those of a label lie together in the order of a precision-recall curve, and those of an
    image and label are by falling score. ``image``, ``label`` and ``box`` are as of ``Objects``;
    ``area`` is that of the box; ``place`` the position in the list.
    """

    image: Integers
    label: Integers
    box: Floats
    area: Floats
    score: Floats
    place: Integers


@dataclass(frozen=True)
class Pairs:
    """Detections and objects (P,) of one image, of any classes, that overlap; by detection.

    A pair is here if its IoU, or the share of the detection that the object covers, is 0.1 or
    more. Pairs of one detection are in the order of the objects.
    """

    detection: Integers
    object: Integers
    iou: Floats
    cover: Floats
    """Intersection over the area of the detection, which is a crowd's overlap."""


@dataclass(frozen=True)
class Candidates:
    """Pairs (P,) that may be matched, by detection, then as ``match`` prefers them.

    ``shared`` objects are ignored and take any number of detections; ``overlap`` is what is held
    against the threshold.
    """

    detection: Integers
    object: Integers
    overlap: Floats
    shared: Flags


@dataclass(frozen=True)
class Pairing:
    """The objects and detections of one run on one split, and all that overlap."""

    images: list[Any]
    """Ids, sorted."""
    classes: list[str]
    objects: Objects
    detections: Detections
    pairs: Pairs

    @cached_property
    def candidates(self) -> Candidates:
        """Pairs of one class: what a detection may be matched to."""
        return candidates(self)


@dataclass(frozen=True)
class Matches:
    """What became of each detection at one IoU in one range of areas."""

    object: Integers
    """(D,) position of the matched object, or -1."""
    ignored: Flags
    """(D,): counts neither as right nor as wrong."""
    counted: Flags
    """(G,): the objects that are to be found."""

    @property
    def right(self) -> Flags:
        """(D,): the true positives."""
        return (self.object != UNMATCHED) & ~self.ignored

    @property
    def wrong(self) -> Flags:
        """(D,): the false positives."""
        return (self.object == UNMATCHED) & ~self.ignored


def read_pairing(directory: Path, ground_truth: Mapping[str, Any]) -> Pairing:
    """Return the pairing of a run with the COCO dict of its test split.

    UserError where its detections are absent, damaged, or of another split.
    """
    truth = dict(ground_truth)
    return pair(truth, read_detections(directory / "detections.json.gz", truth))


def pair(ground_truth: Mapping[str, Any], detections: Sequence[Detection]) -> Pairing:
    """Return the columns of COCO results and what overlaps, over all categories of the file.

    At most the 100 first of an image and class count; equal scores rank by image id, then by the
    order of the list. UserError as ``kd.evaluation.detections.read``.
    """
    classes = [category["name"] for category in ground_truth["categories"]]
    images, truth, found = read(ground_truth, detections, classes)
    order = np.argsort(truth.image, kind="stable")
    objects = Objects(
        truth.image[order],
        truth.label[order],
        truth.xyxy[order],
        truth.area[order],
        truth.crowd[order],
        order,
    )
    kept = _ranked(found.image, found.label, found.score)
    width_height = found.box[kept, 2:]
    columns = Detections(
        found.image[kept],
        found.label[kept],
        found.xyxy[kept],
        width_height.prod(axis=1),
        found.score[kept],
        kept,
    )
    size = truth.box[order, 2:].prod(axis=1)
    pairs = _overlapping(columns, objects, size, len(images))
    return Pairing(images, classes, objects, columns, pairs)


def _ranked(image: Integers, label: Integers, score: Floats) -> Integers:
    """Return the detections that count, by label, falling score, image, order in the list."""
    order = np.lexsort((image, -score, label))
    group = label[order] * (image.max(initial=0) + 1) + image[order]
    by_group = np.argsort(group, kind="stable")
    first = np.searchsorted(group[by_group], group[by_group])
    within = np.arange(len(order)) - first < MOST_DETECTIONS
    return order[np.sort(by_group[within])]


def _overlapping(found: Detections, objects: Objects, size: Floats, images: int) -> Pairs:
    """``size`` (G,): the areas of the objects' boxes, as they are written."""
    counts = np.bincount(objects.image, minlength=images)
    first = np.cumsum(counts) - counts
    parts = [
        _pairs_of(found, objects, size, rows, first, counts)
        for rows in _chunks(counts[found.image])
    ]
    if not parts:
        return Pairs(*(np.empty(0, dtype) for dtype in (np.int64, np.int64, float, float)))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def _chunks(sizes: Integers) -> Iterator[slice]:
    """Yield runs of detections with about ``CHUNK`` pairs each, given how many each has."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, done + CHUNK, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _pairs_of(
    found: Detections,
    objects: Objects,
    size: Floats,
    rows: slice,
    first: Integers,
    counts: Integers,
) -> tuple[Integers, Integers, Floats, Floats]:
    image = found.image[rows]
    repeats = counts[image]
    detection = np.repeat(np.arange(rows.start, rows.stop), repeats)
    shift = first[image] - (np.cumsum(repeats) - repeats)
    other = np.arange(len(detection)) + np.repeat(shift, repeats)
    mine, theirs = found.box[detection], objects.box[other]
    low, high = np.maximum(mine[:, :2], theirs[:, :2]), np.minimum(mine[:, 2:], theirs[:, 2:])
    meet = (high > low).all(axis=1)
    detection, other = detection[meet], other[meet]
    shared = (high - low)[meet].prod(axis=1)
    area = found.area[detection]
    iou, cover = shared / (area + size[other] - shared), shared / area
    near = np.maximum(iou, cover) >= LEAST_OVERLAP  # rounding may put an IoU above its cover
    return detection[near], other[near], iou[near], cover[near]


def candidates(pairing: Pairing, forgiven: Flags | None = None) -> Candidates:
    """Return the pairs of one class, and with ``forgiven`` also some of two classes.

    ``forgiven`` (K, K): a detection of class i may fall on an object of class j, which then is to
    it what a crowd is: ignored, shared, and overlapped by the share of the detection it covers.
    """
    pairs, objects = pairing.pairs, pairing.objects
    mine, theirs = pairing.detections.label[pairs.detection], objects.label[pairs.object]
    same = mine == theirs
    kept = np.flatnonzero(same if forgiven is None else same | forgiven[mine, theirs])
    detection, other = pairs.detection[kept], pairs.object[kept]
    shared = objects.crowd[other] | ~same[kept]
    overlap = np.where(shared, pairs.cover[kept], pairs.iou[kept])
    near = overlap >= LEAST_OVERLAP
    detection, other, overlap, shared = detection[near], other[near], overlap[near], shared[near]
    # Of equal overlaps pycocotools takes the last.
    order = np.lexsort((-other, -overlap, detection))
    return Candidates(detection[order], other[order], overlap[order], shared[order])


def match(
    pairing: Pairing,
    iou: float = 0.5,
    area: tuple[float, float] = AREAS["all"],
    listed: Candidates | None = None,
) -> Matches:
    """Match detections to objects as pycocotools does: greedily, by falling score.

    Each takes the free object that it overlaps most, if by ``iou`` (0.1 or more) or more; an
    object that is ignored, a crowd or one outside ``area``, only where no other is free. Ignored
    are detections so matched, and those unmatched whose own area is outside. ``listed``: what may
    be matched, instead of ``pairing.candidates``.
    """
    found, objects = pairing.detections, pairing.objects
    listed = pairing.candidates if listed is None else listed
    counted = to_find(objects, area)
    near = np.flatnonzero(listed.overlap >= min(iou, 1 - 1e-10))
    ignored = listed.shared[near] | ~counted[listed.object[near]]
    order = np.argsort(2 * listed.detection[near] + ignored, kind="stable")
    near = near[order]
    choice = choose(
        listed.detection[near],
        listed.object[near],
        listed.shared[near],
        len(found.score),
        len(objects.area),
    )
    taken = choice != UNMATCHED
    matched = np.full(len(found.score), UNMATCHED)
    matched[taken] = listed.object[near[choice[taken]]]
    left_out = _outside(found.area, area)
    left_out[taken] = ignored[order[choice[taken]]]
    return Matches(matched, left_out, counted)


def to_find(objects: Objects, area: tuple[float, float] = AREAS["all"]) -> Flags:
    """Return (G,): the objects that are not ignored in a range of areas."""
    return ~objects.crowd & ~_outside(objects.area, area)


def _outside(area: Floats, limits: tuple[float, float]) -> Flags:
    return (area < limits[0]) | (area > limits[1])


def choose(
    detection: Integers, wanted: Integers, shared: Flags, detections: int, objects: int
) -> Integers:
    """Return (D,) the row that each detection gets when they choose in order, or -1.

    Rows (P,) are by detection, then by its preference: the object it wants, and whether that is
    free for any number. ``detections`` and ``objects`` are how many there are.

    All ask at once for what they want most, an object keeps the first in order, the others ask
    for their next: as every object prefers the same order, this ends where choosing one by one
    does (Gale and Shapley 1962), in as many rounds as the longest quarrel.
    """
    ends = np.cumsum(np.bincount(detection, minlength=detections))
    choice = np.concatenate([[0], ends[:-1]])[:detections]
    holder = np.full(objects, detections)
    asking = np.flatnonzero(choice < ends)
    while len(asking):
        asking = asking[~shared[choice[asking]]]
        asked = wanted[choice[asking]]
        before = holder[asked]
        np.minimum.at(holder, asked, asking)
        after = holder[asked]
        driven_out = before[(before != after) & (before < detections)]
        lost = np.concatenate([asking[after != asking], np.unique(driven_out)])
        choice[lost] += 1
        asking = lost[choice[lost] < ends[lost]]
    return np.where(choice < ends, choice, UNMATCHED)
