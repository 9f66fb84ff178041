"""AP of resampled test images: the bootstrap over images (Efron and Tibshirani 1993).

A resample draws as many images as there are, with replacement. Detections are matched once per
image, so a resample is a weight for each image, and AP is computed from weighted counts. Runs that
share a resample have paired differences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from kd.evaluation.voc import Flags, Floats, Integers

COCO_RECALLS: Floats = np.linspace(0, 1, 101)
"""Recalls at which precision is read, bit by bit those of pycocotools. Ten of them, such as 0.35,
are a rounding error too high, so that a recall of exactly 35 % does not reach them."""
CHUNK_CELLS = 1 << 18
"""Correct detections of a class times resamples in one chunk, which fits the processor's cache."""


@dataclass(frozen=True)
class ClassRanking:
    """The detections of one class, ranked by score, reduced to what AP depends on."""

    correct: Integers
    """(T,): images of the correct detections, in order of rank."""
    counts: csr_array
    """(T, I): detections of each image between a correct detection and the one before, itself
    included."""


def resample(images: int, count: int, seed: int) -> Floats:
    """Return (I, 1 + count): the number of draws of each image; the first column has each once."""
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(images, np.full(images, 1 / max(images, 1)), count)
    return np.hstack([np.ones((images, 1)), draws.T])


def rank(
    image: Integers, label: Integers, correct: Flags, classes: int, images: int
) -> list[ClassRanking]:
    """Return the ranking of each class, given all detections (D,) by falling score."""
    order = np.argsort(label, kind="stable")
    image, label, correct = image[order], label[order], correct[order]
    hits = np.flatnonzero(correct)
    row: Integers = np.cumsum(correct) - correct  # index of the next correct detection
    # Detections after the last correct one of their class change no precision that is read.
    before = np.flatnonzero(row < len(hits))
    useful = before[label[hits[row[before]]] == label[before]]
    ends = np.cumsum(np.bincount(row[useful], minlength=len(hits)))
    column = image[useful].astype(np.int32)
    bounds = np.searchsorted(label[hits], np.arange(classes + 1))
    starts = np.concatenate([[0], ends])[bounds]
    ranked = []
    for first, last, start, end in zip(bounds, bounds[1:], starts, starts[1:], strict=False):
        pointers = np.concatenate([[start], ends[first:last]]) - start
        counts = np.ones(end - start)
        per_image = csr_array((counts, column[start:end], pointers), (last - first, images))
        ranked.append(ClassRanking(image[hits[first:last]], per_image))
    return ranked


def spread_ties(
    image: Integers, label: Integers, score: Floats, correct: Flags, weights: Floats
) -> tuple[Integers, Integers, Flags, Floats]:
    """Return image, label, correct and weights in which ties rank as in a list of copies.

    Detections (D,) are sorted by label, falling score, image. An image drawn twice has its
    detections twice; two that tie rank first for one copy, then for the other. Where correct and
    wrong detections of an image tie, each copy of the image therefore becomes a separate image: a
    row of the weights, 1 in resamples that draw the image that often.
    """
    # A tie is a run of detections that are equal in label, score and image.
    first = np.ones(len(image), dtype=bool)
    first[1:] = (np.diff(label) != 0) | (np.diff(score) != 0) | (np.diff(image) != 0)
    tie = np.cumsum(first) - 1
    right = np.bincount(tie, correct)
    # The order of copies changes AP only in ties that mix correct and wrong detections.
    mixed = ((right > 0) & (right < np.bincount(tie)))[tie]
    if not mixed.any():
        return image, label, correct, weights
    copies = np.where(mixed, weights.max(axis=1)[image], 1).astype(np.int64)
    # ``source`` is the detection of each copied row, and ``copy`` its number among the copies.
    source = np.repeat(np.arange(len(image)), copies)
    copy = np.arange(len(source)) - np.repeat(np.cumsum(copies) - copies, copies)
    order = np.lexsort((source, copy, tie[source]))
    source, copy = source[order], copy[order]
    separate, new_image = mixed[source], image[source]
    keys = np.stack([new_image[separate], copy[separate]])
    (original, number), index = np.unique(keys, axis=1, return_inverse=True)
    new_image[separate] = len(weights) + index
    # Copy n of an image exists in the resamples that draw it more than n times.
    copy_weights = weights[original] > number[:, None]
    return new_image, label[source], correct[source], np.vstack([weights, copy_weights])


def tally(image: Integers, label: Integers, classes: int, images: int) -> csr_array:
    """Return (K, I): the number of objects (N,) of each class in each image."""
    return csr_array((np.ones(len(image)), (label, image)), (classes, images))


def average_precision(
    ranked: Sequence[ClassRanking], weights: Floats, objects: Floats, recalls: Floats = COCO_RECALLS
) -> Floats:
    """Return (K, R), 0 to 1: the mean precision of each class at ``recalls``, images weighted.

    ``weights``: (I, R) whole numbers; ``objects``: (K, R), the weighted number of annotated
    objects. ``recalls``: from 0 to 1 in equal steps, up to rounding. Without objects AP is zero.
    """
    ap = np.zeros(objects.shape)
    width = max(CHUNK_CELLS // max(1, *(len(of_class.correct) for of_class in ranked)), 1)
    for start in range(0, weights.shape[1], width):
        columns = slice(start, start + width)
        chunk = np.ascontiguousarray(weights[:, columns])
        for label, of_class in enumerate(ranked):
            if len(of_class.correct):
                ap[label, columns] = _area(of_class, chunk, objects[label, columns], recalls)
    return ap


def _area(ranked: ClassRanking, weights: Floats, objects: Floats, recalls: Floats) -> Floats:
    """Return (R,): the mean over recalls of the best precision at that recall or above."""
    hits = np.cumsum(weights[ranked.correct], axis=0)
    detections = np.cumsum(ranked.counts @ weights, axis=0)
    precision = hits / np.maximum(detections, 1)
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # The number of recalls that each correct detection reaches first, which read its precision.
    steps = np.diff(_last_recall(hits, objects, recalls), axis=0, prepend=-1)
    return np.einsum("tr,tr->r", steps, best) / len(recalls)


def _last_recall(hits: Floats, objects: Floats, recalls: Floats) -> Floats:
    """Return (T, R): the index of the last of ``recalls`` that is reached, -1 without a hit."""
    steps = len(recalls) - 1
    last = np.floor(steps * hits / np.maximum(objects, 1))
    last[hits == 0] = -1
    # An exact recall does not reach the one of ``recalls`` that is rounded up from it.
    high = recalls > np.arange(steps + 1) / steps
    # Only these columns have a number of objects that allows such an exact recall.
    able = np.flatnonzero((np.outer(np.flatnonzero(high), objects) % steps == 0).any(axis=0))
    index = last[:, able]
    equal = index * objects[able] == steps * hits[:, able]
    last[:, able] -= high[index.astype(np.int64)] & equal
    return last


def percentile_interval(samples: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return both ends (Q,) of the percentile intervals of metrics (Q, R) of R resamples.

    Resamples in which a metric is undefined are left out; with fewer than two left, ends are NaN.
    """
    samples = samples[:, ~np.isnan(samples).any(axis=0)]
    if samples.shape[1] < 2:
        undefined = np.full(len(samples), np.nan)
        return undefined, undefined
    outside = (1 - confidence) / 2
    low, high = np.quantile(samples, [outside, 1 - outside], axis=1)
    return low, high
