"""AP of resampled images: how much a figure depends on which images were in the test split.

The bootstrap over images (Efron and Tibshirani 1993): a resample is as many images, drawn with
replacement. What was matched in an image stays as it is, so a resample is a weight for each image,
and AP is taken of weighted counts. One resample for several runs makes their differences paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from kd.evaluation.voc import Flags, Floats, Integers

COCO_RECALLS: Floats = np.linspace(0, 1, 101)
"""Where precision is read, to the bit as pycocotools has it: ten of these, such as 0.35, are a
rounding error too high, so that a recall of exactly 35 % does not reach its own."""
CELLS = 1 << 18
"""Correct detections of a class times resamples computed at a time; so much fits a cache."""


@dataclass(frozen=True)
class Ranked:
    """What AP depends on among the detections of one class, ranked by score.

    ``correct`` (T,): the images of the correct ones, in order. ``found`` (T, I): how many
    detections of each image rank after one correct one, up to the next and with it.
    """

    correct: Integers
    found: csr_array


def resample(images: int, count: int, seed: int) -> Floats:
    """Return (I, 1 + count): how often each image is drawn; the first column has each once."""
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(images, np.full(images, 1 / max(images, 1)), count)
    return np.hstack([np.ones((images, 1)), drawn.T])


def rank(
    image: Integers, label: Integers, correct: Flags, classes: int, images: int
) -> list[Ranked]:
    """Return the ranking of each class, given all detections (D,) by falling score."""
    order = np.argsort(label, kind="stable")
    image, label, correct = image[order], label[order], correct[order]
    hits = np.flatnonzero(correct)
    row: Integers = np.cumsum(correct) - correct  # of the next correct one
    # What ranks after the last correct one of its class changes no precision that is read.
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
        found = csr_array((counts, column[start:end], pointers), (last - first, images))
        ranked.append(Ranked(image[hits[first:last]], found))
    return ranked


def spread_ties(
    image: Integers, label: Integers, score: Floats, correct: Flags, weights: Floats
) -> tuple[Integers, Integers, Flags, Floats]:
    """Return image, label, correct and weights such that ties rank as they do in a list of copies.

    Detections (D,) are by label, falling score, image. An image drawn twice has its detections
    twice: of two that tie, first both of one copy, then both of the other. So where right and
    wrong ones of an image tie, each of its copies becomes an image of its own: a row of the
    weights, 1 where the image is drawn that often.
    """
    first = np.ones(len(image), dtype=bool)
    first[1:] = (np.diff(label) != 0) | (np.diff(score) != 0) | (np.diff(image) != 0)
    tie = np.cumsum(first) - 1
    right = np.bincount(tie, correct)
    mixed = ((right > 0) & (right < np.bincount(tie)))[tie]
    if not mixed.any():
        return image, label, correct, weights
    copies = np.where(mixed, weights.max(axis=1)[image], 1).astype(np.int64)
    source = np.repeat(np.arange(len(image)), copies)
    copy = np.arange(len(source)) - np.repeat(np.cumsum(copies) - copies, copies)
    order = np.lexsort((source, copy, tie[source]))
    source, copy = source[order], copy[order]
    apart, placed = mixed[source], image[source]
    keys = np.stack([placed[apart], copy[apart]])
    (whose, number), place = np.unique(keys, axis=1, return_inverse=True)
    placed[apart] = len(weights) + place
    drawn = weights[whose] > number[:, None]
    return placed, label[source], correct[source], np.vstack([weights, drawn])


def tally(image: Integers, label: Integers, classes: int, images: int) -> csr_array:
    """Return (K, I): how many of the things (N,) are of each class and in each image."""
    return csr_array((np.ones(len(image)), (label, image)), (classes, images))


def average_precision(
    ranked: Sequence[Ranked], weights: Floats, objects: Floats, recalls: Floats = COCO_RECALLS
) -> Floats:
    """Return (K, R), 0 to 1: the mean precision of each class at ``recalls``, images weighted.

    ``weights``: (I, R) whole numbers; ``objects``: (K, R), how many there are to be found with
    those weights. ``recalls``: from 0 to 1 in equal steps, up to rounding. Zero where there are no
    objects.
    """
    values = np.zeros(objects.shape)
    width = max(CELLS // max(1, *(len(each.correct) for each in ranked)), 1)
    for start in range(0, weights.shape[1], width):
        columns = slice(start, start + width)
        chunk = np.ascontiguousarray(weights[:, columns])
        for label, each in enumerate(ranked):
            if len(each.correct):
                values[label, columns] = _area(each, chunk, objects[label, columns], recalls)
    return values


def _area(ranked: Ranked, weights: Floats, objects: Floats, recalls: Floats) -> Floats:
    """Return (R,): mean precision at the recalls, each the best at that recall or above."""
    hits = np.cumsum(weights[ranked.correct], axis=0)
    seen = np.cumsum(ranked.found @ weights, axis=0)
    precision = hits / np.maximum(seen, 1)
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    steps = np.diff(_reached(hits, objects, recalls), axis=0, prepend=-1)
    return np.einsum("tr,tr->r", steps, best) / len(recalls)


def _reached(hits: Floats, objects: Floats, recalls: Floats) -> Floats:
    """Return (T, R) the place of the last of ``recalls`` that is reached, -1 without a hit."""
    steps = len(recalls) - 1
    reached = np.floor(steps * hits / np.maximum(objects, 1))
    reached[hits == 0] = -1
    # A recall that should be equal to one that is rounded up falls short of it.
    high = recalls > np.arange(steps + 1) / steps
    able = np.flatnonzero((np.outer(np.flatnonzero(high), objects) % steps == 0).any(axis=0))
    place = reached[:, able]
    equal = place * objects[able] == steps * hits[:, able]
    reached[:, able] -= high[place.astype(np.int64)] & equal
    return reached


def percentile_interval(samples: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return the ends (Q,) of the percentile intervals of figures (Q, R) of R resamples.

    Resamples in which a figure is undefined are left out; NaN where fewer than two are left.
    """
    samples = samples[:, ~np.isnan(samples).any(axis=0)]
    if samples.shape[1] < 2:
        nothing = np.full(len(samples), np.nan)
        return nothing, nothing
    outside = (1 - confidence) / 2
    low, high = np.quantile(samples, [outside, 1 - outside], axis=1)
    return low, high
