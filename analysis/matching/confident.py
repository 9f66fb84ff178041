"""Detections of a run from a score on: the right and wrong ones, and missed objects, by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.plotting.detections import CORNERS
from kd.evaluation.matching import (
    Matches,
    Pairing,
    RankedDetections,
    SortedObjects,
    match,
)


@dataclass(frozen=True)
class RunOutcome:
    """Matched detections of one run on the test split, with those above a score counted."""

    run: str
    pairing: Pairing
    matches: Matches
    score: float

    @property
    def right(self) -> np.ndarray:
        """(D,): the true positives."""
        return self.matches.right & (self.pairing.detections.score >= self.score)

    @property
    def wrong(self) -> np.ndarray:
        """(D,): the false positives."""
        return self.matches.wrong & (self.pairing.detections.score >= self.score)

    @property
    def missed(self) -> np.ndarray:
        """(G,): the objects without a true positive."""
        missed = self.matches.counted_objects.copy()
        missed[self.matches.object[self.right]] = False
        return missed


def match_run(run: str, pairing: Pairing, iou: float, score: float | None) -> RunOutcome:
    """Match a run at ``iou``; without a ``score``, count from the one with the highest F1 on."""
    matches = match(pairing, iou)
    smallest = best_score(pairing.detections.score, matches) if score is None else score
    return RunOutcome(run, pairing, matches, smallest)


def best_score(scores: np.ndarray, matches: Matches) -> float:
    """Return the score (0 to 1) from which on detections of all images have the highest F1.

    Among equal F1 it is the highest score; it is 1 without a detection. Ignored detections do not
    count.
    """
    counted_rows = np.flatnonzero(~matches.ignored)
    if not len(counted_rows):
        return 1.0
    order = counted_rows[np.argsort(-scores[counted_rows], kind="stable")]
    right = np.cumsum(matches.right[order])
    values = f1(right, np.arange(1, len(order) + 1) - right, matches.counted_objects.sum() - right)
    last = np.append(scores[order][1:] != scores[order][:-1], True)  # equal scores count together
    return float(scores[order[np.argmax(np.where(last, values, -1))]])


def f1(right: np.ndarray, wrong: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """Return 2 right / (2 right + wrong + missed); NaN without an object."""
    objects = right + missed
    return np.where(objects > 0, 2 * right / np.maximum(objects + right + wrong, 1), np.nan)


def count(outcome: RunOutcome) -> pd.DataFrame:
    """Return a line for each image: numbers of right, wrong and missed, and the image's F1."""
    pairing, images = outcome.pairing, len(outcome.pairing.images)
    right, wrong = (
        np.bincount(pairing.detections.image[flags], minlength=images)
        for flags in (outcome.right, outcome.wrong)
    )
    missed = np.bincount(pairing.objects.image[outcome.missed], minlength=images)
    columns = {"image": pairing.images, "run": outcome.run, "right": right, "wrong": wrong}
    return pd.DataFrame(columns | {"missed": missed, "f1": f1(right, wrong, missed)})


def boxes(outcomes: Sequence[RunOutcome], images: Sequence[Any]) -> pd.DataFrame:
    """Return the boxes in ``images``, xyxy in pixels: objects without a run, then those of runs.

    ``kind`` is object, right, wrong (detections) or missed (objects).
    """
    first = outcomes[0]
    objects = first.pairing.objects
    parts = [_boxes("", "object", first.pairing, objects, first.matches.counted_objects, images)]
    for outcome in outcomes:
        pairing = outcome.pairing
        for kind, columns, flags in (
            ("right", pairing.detections, outcome.right),
            ("wrong", pairing.detections, outcome.wrong),
            ("missed", pairing.objects, outcome.missed),
        ):
            parts.append(_boxes(outcome.run, kind, pairing, columns, flags, images))
    return pd.concat(parts, ignore_index=True)


def _boxes(
    run: str,
    kind: str,
    pairing: Pairing,
    columns: SortedObjects | RankedDetections,
    flags: np.ndarray,
    images: Sequence[Any],
) -> pd.DataFrame:
    """Return a line for each flagged object or detection that lies in one of ``images``."""
    ids = np.array(pairing.images)
    rows = np.flatnonzero(flags & np.isin(ids, images)[columns.image])
    return pd.DataFrame(
        {
            "image": ids[columns.image[rows]],
            "run": run,
            "kind": kind,
            "class": np.array(pairing.classes, dtype=object)[columns.label[rows]],
            "score": columns.score[rows] if isinstance(columns, RankedDetections) else np.nan,
            **dict(zip(CORNERS, columns.box[rows].T, strict=True)),
        }
    )
