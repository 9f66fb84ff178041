"""TIDE (Bolya et al., ECCV 2020): which errors cost how much AP, and how sure a difference is.

Every detection that is not correct gets one error, every object not found is missed; what an error
costs is the AP gained when an oracle mends that error alone. Follows tidecv 1.0.1, which it equals
but for two things: detections of equal score rank by image, then by the order of the list, also
after a fix (tidecv then puts the wrong ones first); and where a fix leaves neither objects nor
detections AP is 100, for nothing is wrong any more (tidecv divides by zero).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from analysis.matching.matching import UNMATCHED, Pairing, choose
from analysis.statistics.bootstrap import average_precision, rank, tally
from kd.evaluation.voc import Flags, Floats, Integers

MAIN = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
SPECIAL = ("FP", "FN")
ERRORS = MAIN + SPECIAL
CORRECT = -1
CLS, LOC, BOTH, DUPE, BKG, MISS = range(len(MAIN))
RECALLS: Floats = np.arange(101) / 100
"""Of which pycocotools has ten a rounding error higher."""
THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
MOST_DETECTIONS = 100
"""Of an image, over all classes; COCO's AP takes so many of each class."""


@dataclass(frozen=True)
class Scene:
    """What TIDE asks of a run, whatever the IoU; detections (D,) by falling score.

    ``same`` and ``other`` are the highest IoU with an object of the detection's class and of
    another one, ``same_object`` and ``other_object`` those objects; ``cover`` is the largest part
    of it that lies in a crowd of its class. ``pairs``: detection, object and IoU of those of one
    class, by detection and falling IoU. Crowds are not ``counted`` (G,) as objects.
    """

    image: Integers
    label: Integers
    alone: Flags
    """Of an image without objects."""
    same: Floats
    same_object: Integers
    other: Floats
    other_object: Integers
    cover: Floats
    pairs: tuple[Integers, Integers, Floats]
    object_image: Integers
    object_label: Integers
    counted: Flags
    images: int
    classes: int
    background: float


@dataclass(frozen=True)
class Diagnosis:
    """What became of detections (D,) and objects (G,) at one IoU.

    ``kind`` is ``CORRECT`` or an error; ``ignored`` detections lie in a crowd and cost nothing.
    ``mended``: the best detection of those whose Cls or Loc error keeps an object from being
    found, and ``target`` that object. ``missed``: not found, and no such error's target.
    """

    kind: Integers
    ignored: Flags
    mended: Flags
    target: Integers
    taken: Flags
    missed: Flags


class Errors(NamedTuple):
    """The errors of one run at one IoU, images weighted in R ways."""

    ap: Floats
    """(R,) 0 to 100."""
    gains: Floats
    """(8, R) AP points, by ``ERRORS``."""
    counts: Integers
    """(8, K): of a class, that of the detection or of the object."""
    by_class: Floats
    """(K,) AP, 0 to 100, as the first column weighs the images; NaN without objects."""


def survey(pairing: Pairing, background: float = 0.1) -> Scene:
    """Return what TIDE needs of a pairing; ``background``: IoU below which nothing was meant."""
    found, objects = pairing.detections, pairing.objects
    order = _kept(found.image, found.score, found.place)
    place = np.full(len(found.score), UNMATCHED)
    place[order] = np.arange(len(order))
    image, label, counted = found.image[order], found.label[order], ~objects.crowd

    detection, other = place[pairing.pairs.detection], pairing.pairs.object
    alike = label[detection] == objects.label[other]
    usable = (detection != UNMATCHED) & counted[other] & (pairing.pairs.iou >= background)
    crowded = (detection != UNMATCHED) & ~counted[other] & alike
    cover = np.zeros(len(order))
    np.maximum.at(cover, detection[crowded], pairing.pairs.cover[crowded])
    same, different = (
        _by_overlap(detection[rows], other[rows], pairing.pairs.iou[rows])
        for rows in (usable & alike, usable & ~alike)
    )
    with_objects = np.zeros(len(pairing.images), dtype=bool)
    with_objects[objects.image[counted]] = True
    return Scene(
        image,
        label,
        ~with_objects[image],
        *_best(same, len(order)),
        *_best(different, len(order)),
        cover,
        same,
        objects.image,
        objects.label,
        counted,
        len(pairing.images),
        len(pairing.classes),
        background,
    )


def _kept(image: Integers, score: Floats, place: Integers) -> Integers:
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
    """Return (D,) the highest IoU of each detection, 0 without a pair, and its object."""
    detection, other, iou = pairs
    first = np.flatnonzero(np.diff(detection, prepend=-1))
    best, which = np.zeros(detections), np.full(detections, UNMATCHED)
    best[detection[first]], which[detection[first]] = iou[first], other[first]
    return best, which


def diagnose(scene: Scene, iou: float) -> Diagnosis:
    """Return the error of every detection and object where ``iou`` makes a detection correct.

    The first that applies: Loc, ``background`` <= IoU <= ``iou`` with an object of its class; Cls,
    IoU >= ``iou`` with one of another class; Dupe, IoU >= ``iou`` with one of its class, which a
    better detection found; Bkg, IoU <= ``background`` with all; Both.
    """
    taken = np.zeros(len(scene.counted), dtype=bool)
    near = scene.pairs[2] >= iou
    detection, other = scene.pairs[0][near], scene.pairs[1][near]
    shared = np.zeros(len(other), dtype=bool)
    row = choose(detection, other, shared, len(scene.image), len(taken))
    correct = row != UNMATCHED
    taken[other[row[correct]]] = True

    low, same, different = scene.background, scene.same, scene.other
    kind = np.select(
        [
            correct,
            scene.alone,
            (same >= low) & (same <= iou),
            different >= iou,
            same >= iou,
            np.maximum(same, different) <= low,
        ],
        [CORRECT, BKG, LOC, CLS, DUPE, BKG],
        BOTH,
    )
    target = np.select([kind == LOC, kind == CLS], [scene.same_object, scene.other_object], -1)
    aimed = np.flatnonzero(target >= 0)
    aimed = aimed[~taken[target[aimed]]]
    reached, first = np.unique(target[aimed], return_index=True)
    mended = np.zeros(len(kind), dtype=bool)
    mended[aimed[first]] = True
    missed = scene.counted & ~taken
    missed[reached] = False
    return Diagnosis(kind, ~correct & (scene.cover > iou), mended, target, taken, missed)


class Fixed(NamedTuple):
    """What AP is taken of: detections by falling score, and which objects are to be found."""

    label: Integers
    correct: Flags
    kept: Flags
    wanted: Flags
    first: Flags | None = None
    """Those that rank before all others."""


def _fixes(scene: Scene, seen: Diagnosis) -> Iterator[Fixed]:
    """Yield things as they are, then as each of ``ERRORS``' oracles leaves them."""
    correct, kept, wanted = seen.kind == CORRECT, ~seen.ignored, scene.counted
    yield Fixed(scene.label, correct, kept, wanted)
    for kind in (CLS, LOC, BOTH, DUPE, BKG):
        mine = seen.kind == kind
        mended = mine & seen.mended
        label = scene.label
        if kind == CLS:
            label = label.copy()
            label[mended] = scene.object_label[seen.target[mended]]
        yield Fixed(label, correct | mended, (kept & ~mine) | mended, wanted)
    yield Fixed(scene.label, correct, kept, wanted & ~seen.missed)
    yield Fixed(scene.label, correct, kept, wanted, first=correct)
    yield Fixed(scene.label, correct, kept, wanted & seen.taken)


def _class_ap(scene: Scene, fixed: Fixed, weights: Floats) -> tuple[Floats, Floats]:
    """Return (K, R) the AP of each class, NaN without objects and detections, and its objects."""
    size = (scene.classes, scene.images)
    objects = (
        tally(scene.object_image[fixed.wanted], scene.object_label[fixed.wanted], *size) @ weights
    )
    order = np.flatnonzero(fixed.kept)
    if fixed.first is not None:
        order = order[np.argsort(~fixed.first[order], kind="stable")]
    image, label = scene.image[order], fixed.label[order]
    ranked = rank(image, label, fixed.correct[order], *size)
    values = average_precision(ranked, weights, objects, RECALLS)
    # As in tidecv, a class that only detections speak of counts with AP 0.
    bare = (objects == 0).any(axis=1)[label]
    found = tally(image[bare], label[bare], *size) @ weights
    values[(objects == 0) & (found == 0)] = np.nan
    return values, objects


def _mean(values: Floats) -> Floats:
    """Return (R,) the mean over the classes that have a value, times 100; NaN without one."""
    defined = ~np.isnan(values)
    total = np.where(defined, values, 0).sum(axis=0)
    count = defined.sum(axis=0)
    return np.where(count > 0, 100 * total / np.maximum(count, 1), np.nan)


def errors(scene: Scene, iou: float, weights: Floats) -> Errors:
    """Return the errors at one IoU; ``weights`` (I, R) as of
    ``analysis.statistics.bootstrap.resample``.

    A main error gains what its fix adds to AP, or zero; FP is gained by ranking what is wrong
    behind all that is correct, FN by wanting only the objects that were found.
    """
    seen = diagnose(scene, iou)
    plain, *fixes = _fixes(scene, seen)
    values, objects = _class_ap(scene, plain, weights)
    ap = _mean(values)
    gains = np.full((len(ERRORS), len(ap)), np.nan)
    for index, fixed in enumerate(fixes):
        after = _mean(_class_ap(scene, fixed, weights)[0])
        gains[index] = np.where(np.isnan(after), 100, after) - ap
    # Precision is read at 101 recalls, so that a fix may seem to cost a little.
    gains[: len(MAIN)] = np.maximum(gains[: len(MAIN)], 0)
    by_class = np.where(objects[:, 0] > 0, 100 * values[:, 0], np.nan)
    return Errors(ap, gains, _counts(scene, seen), by_class)


def _counts(scene: Scene, seen: Diagnosis) -> Integers:
    """Return (8, K). Main errors in a crowd are counted too, as tidecv does; FP are without."""
    unfound = scene.counted & ~seen.taken
    groups = [scene.label[seen.kind == kind] for kind in (CLS, LOC, BOTH, DUPE, BKG)]
    groups.append(scene.object_label[seen.missed])
    groups.append(scene.label[(seen.kind != CORRECT) & ~seen.ignored])
    groups.append(scene.object_label[unfound])
    return np.array([np.bincount(group, minlength=scene.classes) for group in groups])
