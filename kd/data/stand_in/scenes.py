"""Boxes of stand-in images, drawn for all images of a split at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kd.data.stand_in.statistics import Statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIKE = 0.6  # probability that a box has the class of the previous one of its image
FILL = (0.45, 0.9)  # share of its box that an object covers
ASPECT = 0.5  # deviation of the logarithm of width / height
TOUCHING = 0.1  # share of the boxes that touch the border of their image
EDGE_CASES = 150_000
"""One in this number of boxes has no width, and another less than a pixel, at least one each."""
FEWEST_BOXES = 100  # in a split with edge cases


@dataclass(frozen=True)
class Scenes:
    """Images and boxes of a split; box i belongs to image ``owners[i]``."""

    photographs: "NDArray[np.int64]"
    """Number of each image's photograph (N,)."""
    sides: "NDArray[np.int64]"
    """Width and height of each image in pixels (N, 2)."""
    owners: "NDArray[np.int64]"
    """Position of each box's image (M,), ascending."""
    labels: "NDArray[np.int64]"
    """Class of each box (M,)."""
    boxes: "NDArray[np.float64]"
    """Boxes xywh in pixels (M, 4), rounded to hundredths."""
    areas: "NDArray[np.float64]"
    """Areas of the objects in square pixels (M,)."""
    crowds: "NDArray[np.bool_]"
    difficult: "NDArray[np.bool_]"


def draw_scenes(
    rng: np.random.Generator,
    count: int,
    statistics: Statistics,
    sizes: "NDArray[np.int64]",
    weights: Sequence[float],
) -> Scenes:
    """Draw ``count`` images; ``sizes`` (P, 2) of the photographs; ``weights`` of the classes."""
    photographs = rng.permutation(np.arange(count) % len(sizes))
    sides = sizes[photographs]
    owners = np.repeat(np.arange(count), _box_counts(rng, count, statistics))
    labels = _draw_labels(rng, owners, np.array(weights, np.float64))
    boxes, areas = _draw_boxes(rng, sides[owners].astype(np.float64), statistics)
    crowds = rng.random(len(owners)) < statistics.crowds
    difficult = rng.random(len(owners)) < statistics.difficult
    crowds[0] = difficult[0] = False  # training needs a box
    return Scenes(photographs, sides, owners, labels, boxes, areas, crowds, difficult)


def _box_counts(
    rng: np.random.Generator, count: int, statistics: Statistics
) -> "NDArray[np.int64]":
    mean, deviation, most = statistics.boxes
    counts = np.clip(rng.lognormal(mean, deviation, count).astype(np.int64), 1, most)
    empty = round(statistics.empty * count)
    counts[rng.choice(count, empty, replace=False)] = 0
    return counts


def _draw_labels(
    rng: np.random.Generator, owners: "NDArray[np.int64]", weights: "NDArray[np.float64]"
) -> "NDArray[np.int64]":
    """Return a class for each box; boxes of an image have few classes, and every class occurs."""
    count = len(owners)
    labels = rng.choice(len(weights), count, p=weights / weights.sum())
    is_first = np.r_[True, owners[1:] != owners[:-1]]
    sources = np.where(is_first | (rng.random(count) >= ALIKE), np.arange(count), 0)
    labels = labels[np.maximum.accumulate(sources)]
    places = rng.permutation(count)[: len(weights)]
    labels[places] = np.arange(len(places))
    return labels


def _draw_boxes(
    rng: np.random.Generator, sides: "NDArray[np.float64]", statistics: Statistics
) -> tuple["NDArray[np.float64]", "NDArray[np.float64]"]:
    """Return boxes xywh inside images of ``sides`` (M, 2), and the areas of their objects."""
    count = len(sides)
    areas = rng.lognormal(*statistics.areas, count)
    fill = rng.uniform(*FILL, count)
    aspect = np.exp(rng.normal(0, ASPECT, count))
    across = np.minimum(np.sqrt(areas / fill * aspect), sides[:, 0])
    down = np.minimum(areas / fill / across, sides[:, 1])
    across = np.clip(areas / fill / down, across, sides[:, 0])
    extent = np.stack([across, down], axis=1)
    places = rng.random((count, 2))
    touching = rng.random((count, 2)) < TOUCHING / 2
    places[touching] = places[touching].round()
    extent = np.maximum(extent.round(2), 0.01)
    corners = np.minimum((places * (sides - extent)).round(2), sides - extent)
    boxes = np.concatenate([corners, extent], axis=1).round(2)
    areas = fill * boxes[:, 2] * boxes[:, 3]
    if count >= FEWEST_BOXES:
        positions = rng.choice(count, 2 * max(1, count // EDGE_CASES), replace=False)
        boxes[positions[0::2], 2] = 0.0
        boxes[positions[1::2], 2] = 0.4
    return boxes, np.maximum(areas, 0.01).round(4)
