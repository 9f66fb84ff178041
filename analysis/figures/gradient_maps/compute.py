"""Tables of gradient maps: gradients of each drawn cell, and means on objects and background."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.figures.gradient_maps.gradients import Gradients, gradients
from analysis.figures.networks import RunNetworks, SplitName, annotated_images, image_of
from analysis.runs.groups import RunGroup

LONGEST_SIDE = 100
"""Cells of a drawn map's longer side; in a larger map, blocks of cells are averaged."""


class AnnotatedImage(NamedTuple):
    """Image under maps, with its objects."""

    pixels: np.ndarray
    """(H, W, 3), 0 to 1."""
    boxes: np.ndarray
    """(G, 4): ground truth, xyxy in pixels."""


def compute_tables(
    students: Sequence[RunGroup], count: int, drawn_count: int, split: SplitName, seed: int
) -> tuple[dict[str, pd.DataFrame], dict[Any, AnnotatedImage]]:
    """Return the maps of the first images, the means over all, and the first images by id."""
    images: dict[Any, AnnotatedImage] = {}
    sum_frames, map_frames = [], []
    for group in students:
        run = RunNetworks.load(group.directory)
        name = f"{group.directory}: images"
        samples = annotated_images(group.directory, count, seed, split, name)
        for number, sample in enumerate(samples):
            image_gradients = gradients(run, sample, seed)
            sum_frames.append(sums(group.label, image_gradients))
            if number < drawn_count:
                batch = run.batch(sample)
                image_id = batch.samples[0].img_id
                boxes = batch.gt_boxes[0].cpu().numpy()
                images[image_id] = AnnotatedImage(image_of(batch).numpy(), boxes)
                map_frames.append(maps(group.label, image_id, image_gradients))
    tables = {
        "gradient_maps": pd.concat(map_frames, ignore_index=True),
        "gradient_maps-means": means(pd.concat(sum_frames)),
    }
    return tables, images


def sums(run: str, image_gradients: Gradients) -> pd.DataFrame:
    """Return a row for each level and term of one image: sum and number of cells by region."""
    rows = []
    for term, levels in image_gradients.norms.items():
        for level, (norms, objects) in enumerate(zip(levels, image_gradients.objects, strict=True)):
            rows.append(
                {
                    "run": run,
                    "level": level,
                    "stride": image_gradients.strides[level],
                    "term": term,
                    "objects": norms[objects].sum(dtype=float),
                    "background": norms[~objects].sum(dtype=float),
                    "object_cells": objects.sum(),
                    "background_cells": (~objects).sum(),
                }
            )
    return pd.DataFrame(rows)


def means(image_sums: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each run, level and term: means on object and background cells, and ratio.

    ``image_sums`` are the rows of ``sums`` of all images. A mean without cells, and a ratio to 0,
    are NaN.
    """
    keys = ["run", "level", "stride", "term"]
    frame = image_sums.groupby(keys, sort=False).sum().reset_index()
    for region, cells in (("objects", "object_cells"), ("background", "background_cells")):
        frame[region] /= frame[cells].where(frame[cells] > 0)
    ratio = frame["objects"] / frame["background"].where(frame["background"] > 0)
    frame.insert(list(frame).index("background") + 1, "ratio", ratio)
    return frame


def describe_ratios(frame: pd.DataFrame) -> str:
    """Return a sentence with each run's ratio of the total gradient by level, of ``means``."""
    total = frame[frame["term"] == "total"]
    by_run = [
        f"{run} " + ", ".join("undefined" if math.isnan(r) else f"{r:.2g}" for r in rows["ratio"])
        for run, rows in total.groupby("run", sort=False)
    ]
    return (
        "Mean total gradient on objects divided by that on background, by level: "
        + "; ".join(by_run)
        + "."
    )


def maps(run: str, image: Any, image_gradients: Gradients) -> pd.DataFrame:
    """Return a row for each drawn cell of one image: the total gradient, and distillation's.

    ``cell`` is its side in pixels, a multiple of the stride if blocks of cells are averaged.
    """
    frames = []
    distillation = image_gradients.norms.get("distillation")
    for level, (total, stride) in enumerate(
        zip(image_gradients.norms["total"], image_gradients.strides, strict=True)
    ):
        block = -(-max(total.shape) // LONGEST_SIDE)
        averaged = average_blocks(total, block)
        rows, columns = np.indices(averaged.shape)
        frames.append(
            pd.DataFrame(
                {
                    "run": run,
                    "image": image,
                    "level": level,
                    "stride": stride,
                    "cell": stride * block,
                    "y": rows.ravel(),
                    "x": columns.ravel(),
                    "total": averaged.ravel(),
                    "distillation": average_blocks(distillation[level], block).ravel()
                    if distillation
                    else np.nan,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def average_blocks(values: np.ndarray, block: int) -> np.ndarray:
    """Return the means of square blocks of a map (H, W); those at the ends may be smaller."""
    rows, columns = (np.arange(0, side, block) for side in values.shape)
    block_sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    heights, widths = (
        np.diff(np.append(starts, side))
        for starts, side in zip((rows, columns), values.shape, strict=True)
    )
    return block_sums / np.outer(heights, widths)
