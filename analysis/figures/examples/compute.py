"""Tables of examples: counts and F1 of each image, and the boxes of the selected images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.matching.pairings import read_pairing
from analysis.runs.groups import RunGroup
from kd.config.library import Library
from kd.data import decoding
from kd.data.readers import image_path
from kd.evaluation.matching import (
    Matches,
    Pairing,
    RankedDetections,
    SortedObjects,
    match,
)

Selection = Literal["gain", "loss", "random"]
SELECTIONS: tuple[Selection, ...] = ("gain", "loss", "random")
"""Selections of images, in the order of the rows of the picture."""
CORNERS = ("left", "top", "right", "bottom")
GAIN_DIGITS = 9
"""Digits of gains after rounding, which makes gains that differ by rounding errors equal."""


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


def match_runs(
    groups: Sequence[RunGroup], truth: Mapping[str, Any], iou: float, score: float | None
) -> list[RunOutcome]:
    """Return the outcome of the first run of each group, of which the baseline comes first."""
    return [
        match_run(group.label, read_pairing(group.directory, truth), iou, score) for group in groups
    ]


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


def compute_tables(
    outcomes: Sequence[RunOutcome],
    truth: Mapping[str, Any],
    selections: Sequence[Selection],
    number: int,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Return a line for each image and run, and a line for each box of the selected images."""
    frame = compare(outcomes[0], outcomes[1:])
    selected = select(frame, selections, number, seed)
    file_names = {image["id"]: image["file_name"] for image in truth["images"]}
    images = [image for ids in selected.values() for image in ids]
    return {
        "examples": add_selection(frame, selected, file_names),
        "examples-boxes": boxes(outcomes, images),
    }


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


def compare(baseline: RunOutcome, distilled: Sequence[RunOutcome]) -> pd.DataFrame:
    """Return the counts of all runs, each image's ``gain`` in F1, and ``fewer`` errors.

    Both are means over the distilled runs of the difference to the baseline.
    """
    baseline_counts, *distilled_counts = (count(run) for run in (baseline, *distilled))
    errors = [counts["wrong"] + counts["missed"] for counts in (baseline_counts, *distilled_counts)]
    gains = [counts["f1"] - baseline_counts["f1"] for counts in distilled_counts]
    gain = np.mean(gains, axis=0).round(GAIN_DIGITS)
    fewer = np.mean([errors[0] - number for number in errors[1:]], axis=0)
    return pd.concat(
        [counts.assign(gain=gain, fewer=fewer) for counts in (baseline_counts, *distilled_counts)]
    )


def select(
    frame: pd.DataFrame, selections: Sequence[Selection], number: int, seed: int
) -> dict[Selection, list[Any]]:
    """Return the images of each selection, ``number`` at most, and no image twice.

    Of equal gains the one with more errors avoided (of equal losses, with more added) comes first,
    then the lower id. An image that neither gains nor loses, or has no object and so no F1, is only
    selected at random.
    """
    images = frame.drop_duplicates("image").sort_values("image").reset_index(drop=True)
    down = images.sort_values(["gain", "fewer"], ascending=False, kind="stable")
    up = images.sort_values(["gain", "fewer"], kind="stable")
    order = np.random.default_rng(seed).permutation(len(images))
    ranked: dict[Selection, pd.Series[Any]] = {
        "gain": down.loc[down["gain"] > 0, "image"],
        "loss": up.loc[up["gain"] < 0, "image"],
        "random": images.loc[order, "image"],
    }
    used: set[Any] = set()
    selected: dict[Selection, list[Any]] = {}
    for selection in sorted(selections, key=SELECTIONS.index):
        unused = [image for image in ranked[selection] if image not in used]
        selected[selection] = unused[:number]
        used.update(selected[selection])
    return selected


def add_selection(
    frame: pd.DataFrame, selected: Mapping[Selection, Sequence[Any]], file_names: Mapping[Any, str]
) -> pd.DataFrame:
    """Return the counts with ``file``, ``chosen`` (the selection, or empty) and ``rank`` in it."""
    order = [(image, selection) for selection, images in selected.items() for image in images]
    ranks = {image: rank for rank, (image, _) in enumerate(order)}
    images = frame["image"]
    return frame.assign(
        file=images.map(file_names),
        chosen=images.map(dict(order)).fillna(""),
        rank=images.map(ranks),
    )


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


def load_images(
    frame: pd.DataFrame, group: RunGroup, truth: Mapping[str, Any], library: Library
) -> dict[Any, np.ndarray]:
    """Return the selected images by id; UserError if a file cannot be read."""
    dataset = library.dataset(group.identity["dataset"], str(group.directory))
    records = {image["id"]: image for image in truth["images"]}
    selected = frame.loc[frame["chosen"] != "", "image"].unique()
    return {image: load(image_path(dataset, "test", records[image])) for image in selected}


def load(path: Path) -> np.ndarray:
    """Return an image (H, W, 3), 0 to 1, with its EXIF orientation; UserError if it is no image."""
    return decoding.load(path) / 255
