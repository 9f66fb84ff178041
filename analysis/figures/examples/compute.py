"""Tables of examples: counts and F1 of each image, and the boxes of the selected images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.matching.confident import RunOutcome, boxes, count, match_run
from analysis.matching.pairings import read_pairing
from analysis.runs.groups import RunGroup
from kd.config.library import Library
from kd.data import decoding
from kd.data.readers import image_path

Selection = Literal["gain", "loss", "random"]
SELECTIONS: tuple[Selection, ...] = ("gain", "loss", "random")
"""Selections of images, in the order of the rows of the picture."""
GAIN_DIGITS = 9
"""Digits of gains after rounding, which makes gains that differ by rounding errors equal."""


def match_runs(
    groups: Sequence[RunGroup], truth: Mapping[str, Any], iou: float, score: float | None
) -> list[RunOutcome]:
    """Return the outcome of the first run of each group, of which the baseline comes first."""
    return [
        match_run(group.label, read_pairing(group.directory, truth), iou, score) for group in groups
    ]


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
