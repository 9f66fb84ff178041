"""TIDE (Bolya et al., ECCV 2020): error types of detections, and the AP that each type costs.

Every detection that is not correct has one error, and every object that is not detected is missed.
The cost of an error is the AP gained if an oracle fixes that error alone. The results equal those
of tidecv 1.0.1 with two exceptions. Detections of equal score rank by image, then by the order of
the list, also after a fix; tidecv then ranks the wrong ones first. If a fix leaves neither objects
nor detections, AP is 100, since no error remains; tidecv divides by zero.

Letters of shapes: D detections, G objects, K classes, I images, R weightings of the images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.statistics.bootstrap import average_precision, rank, tally
from kd.evaluation.matching import UNMATCHED, Pairing, assign
from kd.evaluation.voc import Flags, Floats, Integers

MAIN = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
SPECIAL = ("FP", "FN")
ERRORS = MAIN + SPECIAL
CORRECT = -1
CLS, LOC, BOTH, DUPE, BKG, MISS = range(len(MAIN))
RECALLS: Floats = np.arange(101) / 100
"""Recalls of AP; ten of pycocotools' are higher by a rounding error."""
THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
MOST_DETECTIONS = 100
"""Detections of an image that count, of all classes together; COCO's AP counts 100 per class."""


@dataclass(frozen=True)
class RunOverlaps:
    """Overlaps of a run's detections with objects, independent of the IoU threshold.

    Detections (D,) are by falling score. ``same`` and ``other`` are the highest IoU with an object
    of the detection's class and of another class, and ``same_object`` and ``other_object`` are
    those objects. ``cover`` is the largest share of the detection that a crowd of its class covers.
    ``pairs`` are detection, object and IoU within one class, by detection and falling IoU. Crowds
    are not counted (G,) as objects.
    """

    image: Integers
    label: Integers
    alone: Flags
    """True for detections in an image without objects."""
    same: Floats
    same_object: Integers
    other: Floats
    other_object: Integers
    cover: Floats
    pairs: tuple[Integers, Integers, Floats]
    object_image: Integers
    object_label: Integers
    is_counted: Flags
    images: int
    classes: int
    background: float


@dataclass(frozen=True)
class Diagnosis:
    """Error types of detections (D,) and objects (G,) at one IoU.

    ``kind`` is ``CORRECT`` or an error. ``ignored`` detections lie in a crowd and cost no AP.
    ``fixed`` is the best of the detections whose Cls or Loc error prevents the detection of an
    object, and ``target`` is that object. ``detected`` objects have a correct detection. ``missed``
    objects have none, and are no target.
    """

    kind: Integers
    ignored: Flags
    fixed: Flags
    target: Integers
    detected: Flags
    missed: Flags


class TideErrors(NamedTuple):
    """Errors of one run at one IoU, with R weightings of the images."""

    ap: Floats
    """(R,), 0 to 100."""
    gains: Floats
    """(8, R): AP points gained by fixing each of ``ERRORS``."""
    counts: Integers
    """(8, K): numbers of errors, by the class of the detection or of the object."""
    by_class: Floats
    """(K,): AP, 0 to 100, with the first weighting; NaN without objects."""


def overlaps_of(pairing: Pairing, background: float = 0.1) -> RunOverlaps:
    """Return the overlaps of a pairing; pairs with an IoU below ``background`` are left out."""
    detections, objects = pairing.detections, pairing.objects
    order = _best_rows(detections.image, detections.score, detections.place)
    # From a detection of the pairing to its rank here, UNMATCHED beyond the 100 best.
    position = np.full(len(detections.score), UNMATCHED)
    position[order] = np.arange(len(order))
    image, label, is_counted = detections.image[order], detections.label[order], ~objects.crowd

    detection, other = position[pairing.pairs.detection], pairing.pairs.object
    same_class = label[detection] == objects.label[other]
    usable = (detection != UNMATCHED) & is_counted[other] & (pairing.pairs.iou >= background)
    crowded = (detection != UNMATCHED) & ~is_counted[other] & same_class
    cover = np.zeros(len(order))
    np.maximum.at(cover, detection[crowded], pairing.pairs.cover[crowded])
    same, different = (
        _by_overlap(detection[rows], other[rows], pairing.pairs.iou[rows])
        for rows in (usable & same_class, usable & ~same_class)
    )
    with_objects = np.zeros(len(pairing.images), dtype=bool)
    with_objects[objects.image[is_counted]] = True
    return RunOverlaps(
        image,
        label,
        ~with_objects[image],
        *_best(same, len(order)),
        *_best(different, len(order)),
        cover,
        same,
        objects.image,
        objects.label,
        is_counted,
        len(pairing.images),
        len(pairing.classes),
        background,
    )


def _best_rows(image: Integers, score: Floats, place: Integers) -> Integers:
    """Return the first 100 detections of each image, by falling score, image, order in the list."""
    order = np.lexsort((place, image, -score))
    by_image = np.argsort(image[order], kind="stable")
    sorted_image = image[order][by_image]
    within = np.arange(len(order)) - np.searchsorted(sorted_image, sorted_image)
    return order[np.sort(by_image[within < MOST_DETECTIONS])]


def _by_overlap(
    detection: Integers, other: Integers, iou: Floats
) -> tuple[Integers, Integers, Floats]:
    """Return pairs by detection, falling IoU, order of the objects."""
    order = np.lexsort((other, -iou, detection))
    return detection[order], other[order], iou[order]


def _best(pairs: tuple[Integers, Integers, Floats], detections: int) -> tuple[Floats, Integers]:
    """Return (D,) the highest IoU of each detection, 0 without a pair, and (D,) its object."""
    detection, other, iou = pairs
    first = np.flatnonzero(np.diff(detection, prepend=-1))
    best_iou, best_object = np.zeros(detections), np.full(detections, UNMATCHED)
    best_iou[detection[first]], best_object[detection[first]] = iou[first], other[first]
    return best_iou, best_object


def diagnose(overlaps: RunOverlaps, iou: float) -> Diagnosis:
    """Return the error of every detection and object at the threshold ``iou``.

    The first of these that applies. Loc: ``background`` <= IoU <= ``iou`` with an object of its
    class. Cls: IoU >= ``iou`` with an object of another class. Dupe: IoU >= ``iou`` with an object
    of its class that has a better detection. Bkg: IoU <= ``background`` with all. Both: all others.
    """
    detected = np.zeros(len(overlaps.is_counted), dtype=bool)
    near = overlaps.pairs[2] >= iou
    detection, other = overlaps.pairs[0][near], overlaps.pairs[1][near]
    shared = np.zeros(len(other), dtype=bool)
    # Greedy assignment by falling score, as in tidecv; no object is shared.
    row = assign(detection, other, shared, len(overlaps.image), len(detected))
    correct = row != UNMATCHED
    detected[other[row[correct]]] = True

    background, same, different = overlaps.background, overlaps.same, overlaps.other
    kind = np.select(
        [
            correct,
            overlaps.alone,
            (same >= background) & (same <= iou),
            different >= iou,
            same >= iou,
            np.maximum(same, different) <= background,
        ],
        [CORRECT, BKG, LOC, CLS, DUPE, BKG],
        BOTH,
    )
    target = np.select(
        [kind == LOC, kind == CLS], [overlaps.same_object, overlaps.other_object], -1
    )
    # A fix makes one detection correct, the best, if no other has its object already.
    candidates = np.flatnonzero(target >= 0)
    candidates = candidates[~detected[target[candidates]]]
    fixable, first = np.unique(target[candidates], return_index=True)
    fixed = np.zeros(len(kind), dtype=bool)
    fixed[candidates[first]] = True
    missed = overlaps.is_counted & ~detected
    missed[fixable] = False  # a fix of Loc or Cls would detect it
    return Diagnosis(kind, ~correct & (overlaps.cover > iou), fixed, target, detected, missed)


class FixedDetections(NamedTuple):
    """Input of AP after a fix: detections (D,) by falling score, and objects (G,) that count."""

    label: Integers
    correct: Flags
    is_counted: Flags
    objects: Flags
    first: Flags | None = None
    """Detections that rank before all others."""


def _oracle_fixes(overlaps: RunOverlaps, diagnosis: Diagnosis) -> Iterator[FixedDetections]:
    """Yield the detections without a fix, then with the fix of each of ``ERRORS``."""
    correct, is_counted, objects = (
        diagnosis.kind == CORRECT,
        ~diagnosis.ignored,
        overlaps.is_counted,
    )
    yield FixedDetections(overlaps.label, correct, is_counted, objects)
    # The best detection with an error of an object becomes correct; the others are removed.
    for kind in (CLS, LOC, BOTH, DUPE, BKG):
        of_kind = diagnosis.kind == kind
        repaired = of_kind & diagnosis.fixed
        label = overlaps.label
        if kind == CLS:
            label = label.copy()
            label[repaired] = overlaps.object_label[diagnosis.target[repaired]]
        yield FixedDetections(
            label, correct | repaired, (is_counted & ~of_kind) | repaired, objects
        )
    # Miss removes missed objects, FP ranks wrong detections last, FN removes undetected objects.
    yield FixedDetections(overlaps.label, correct, is_counted, objects & ~diagnosis.missed)
    yield FixedDetections(overlaps.label, correct, is_counted, objects, first=correct)
    yield FixedDetections(overlaps.label, correct, is_counted, objects & diagnosis.detected)


def _class_ap(
    overlaps: RunOverlaps, fixed: FixedDetections, weights: Floats
) -> tuple[Floats, Floats]:
    """Return (K, R) the AP and (K, R) the number of objects of each class.

    AP is NaN for a class without objects and detections.
    """
    size = (overlaps.classes, overlaps.images)
    objects = (
        tally(overlaps.object_image[fixed.objects], overlaps.object_label[fixed.objects], *size)
        @ weights
    )
    order = np.flatnonzero(fixed.is_counted)
    if fixed.first is not None:
        order = order[np.argsort(~fixed.first[order], kind="stable")]
    image, label = overlaps.image[order], fixed.label[order]
    ranked = rank(image, label, fixed.correct[order], *size)
    class_ap = average_precision(ranked, weights, objects, RECALLS)
    # As in tidecv, a class with detections and without objects counts with AP 0.
    bare = (objects == 0).any(axis=1)[label]
    detections = tally(image[bare], label[bare], *size) @ weights
    class_ap[(objects == 0) & (detections == 0)] = np.nan
    return class_ap, objects


def _mean(values: Floats) -> Floats:
    """Return (R,) the mean over the classes that are defined, times 100; NaN without one."""
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0).sum(axis=0)
    count = defined.sum(axis=0)
    return np.where(count > 0, 100 * total / np.maximum(count, 1), np.nan)


def measure_errors(overlaps: RunOverlaps, iou: float, weights: Floats) -> TideErrors:
    """Return the errors at one IoU; ``weights`` (I, R) are those of ``bootstrap.resample``.

    The gain of a main error is the AP that its fix adds, or zero. The fix of FP ranks wrong
    detections behind all correct ones, and that of FN removes objects without a correct detection.
    """
    diagnosis = diagnose(overlaps, iou)
    plain, *fixes = _oracle_fixes(overlaps, diagnosis)
    class_ap, objects = _class_ap(overlaps, plain, weights)
    ap = _mean(class_ap)
    gains = np.full((len(ERRORS), len(ap)), np.nan)
    for index, fixed in enumerate(fixes):
        fixed_ap = _mean(_class_ap(overlaps, fixed, weights)[0])
        gains[index] = np.where(np.isnan(fixed_ap), 100, fixed_ap) - ap
    # Precision is read at 101 recalls, so that a fix may lower AP a little.
    gains[: len(MAIN)] = np.maximum(gains[: len(MAIN)], 0)
    by_class = np.where(objects[:, 0] > 0, 100 * class_ap[:, 0], np.nan)
    return TideErrors(ap, gains, _counts(overlaps, diagnosis), by_class)


def _counts(overlaps: RunOverlaps, diagnosis: Diagnosis) -> Integers:
    """Return (8, K) numbers of errors; main errors include those in crowds, as in tidecv."""
    undetected = overlaps.is_counted & ~diagnosis.detected
    groups = [overlaps.label[diagnosis.kind == kind] for kind in (CLS, LOC, BOTH, DUPE, BKG)]
    groups.append(overlaps.object_label[diagnosis.missed])
    groups.append(overlaps.label[(diagnosis.kind != CORRECT) & ~diagnosis.ignored])
    groups.append(overlaps.object_label[undetected])
    return np.array([np.bincount(group, minlength=overlaps.classes) for group in groups])
