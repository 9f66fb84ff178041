"""Detections as ``kd predict`` stores them in ``detections.json.gz``: columns in gzipped JSON.

The file is an object of four lists. Detection i has

- ``image[i]``: mmdet's id of the image, which is the id of a COCO image or the name of a VOC image,
- ``label[i]``: the index of the class,
- ``bbox[4 * i : 4 * i + 4]``: x, y, width, height in pixels, rounded to thousandths,
- ``score[i]``: 0 to 1.

A file of an earlier version is a list of records with these keys. It is read, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kd.common.errors import UserError
from kd.common.files import read_predictions, write_predictions
from kd.common.results import step_arguments
from kd.evaluation.detections import Detection, Detections, image_positions, require_finite
from kd.evaluation.voc import Floats, Integers

KEYS = ("image", "label", "bbox", "score")
LARGEST_SCALED = 2.0**40
"""Thousandths of a pixel; above, doubles have too few decimals to detect a tie."""


@dataclass(frozen=True)
class StoredDetections:
    """Columns: mmdet's image ids, label (N,), box (N, 4) as xywh in pixels, and score (N,)."""

    image: list[Any]
    label: Integers
    box: Floats
    score: Floats

    @classmethod
    def of_image(
        cls, image: Any, corners: NDArray[Any], labels: NDArray[Any], scores: NDArray[Any]
    ) -> Self:
        """Return the detections in one image; ``corners`` are boxes (N, 4), xyxy in pixels."""
        label, score = labels.astype(np.int64), scores.astype(np.float64)
        return cls([image] * len(label), label, stored_boxes(corners), score)

    @classmethod
    def concatenate(cls, parts: Iterable[Self]) -> Self:
        """Return the detections of all parts, in their order."""
        empty = cls([], np.empty(0, np.int64), np.empty((0, 4)), np.empty(0))
        parts = [empty, *parts]
        return cls(
            list(chain.from_iterable(part.image for part in parts)),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.box for part in parts]),
            np.concatenate([part.score for part in parts]),
        )

    @classmethod
    def parse(cls, content: Any) -> Self:
        """Return the detections in the content of a file; UserError if it has another form."""
        columns = _columns_of(content) if isinstance(content, list) else content
        if not isinstance(columns, dict) or not all(
            isinstance(columns.get(key), list) for key in KEYS
        ):
            names = ", ".join(f"'{key}'" for key in KEYS)
            raise UserError(f"must be an object with the lists {names}")
        count = len(columns["image"])
        for key, length in (("label", count), ("bbox", 4 * count), ("score", count)):
            if len(columns[key]) != length:
                raise UserError(
                    f"'{key}' has length {len(columns[key])}, not {length} for {count} images"
                )
        return cls(
            columns["image"],
            _numbers(columns["label"], "label", "i").astype(np.int64),
            _numbers(columns["bbox"], "bbox", "if").astype(np.float64).reshape(-1, 4),
            _numbers(columns["score"], "score", "if").astype(np.float64),
        )

    def write(self, path: Path) -> None:
        """Write the file."""
        columns = (
            self.image,
            self.label.tolist(),
            self.box.ravel().tolist(),
            self.score.tolist(),
        )
        write_predictions(path, dict(zip(KEYS, columns, strict=True)))

    def positioned(self, truth: Mapping[str, Any]) -> Detections:
        """Return the columns with positions in a COCO dict's sorted image ids and categories.

        A file names an image as mmdet does: by ``img_id`` (VOC), otherwise by ``id``. Images of
        COCO may have a ``name``, which means something else. UserError for an image or class that
        the dict lacks, and for a number that is not finite.
        """
        ranks = image_positions(truth)
        positions = {
            image.get("img_id", image["id"]): ranks[image["id"]] for image in truth["images"]
        }
        try:
            image = np.fromiter(map(positions.__getitem__, self.image), np.int64, len(self.image))
        except (KeyError, TypeError):
            unknown = next(name for name in self.image if not _is_key(name, positions))
            raise UserError(f"image {unknown!r} is not in the split") from None
        outside = (self.label < 0) | (self.label >= len(truth["categories"]))
        if outside.any():
            raise UserError(f"class {self.label[outside][0]} is not in the split")
        require_finite("detection", "bbox", self.box, self.image.__getitem__)
        require_finite("detection", "score", self.score, self.image.__getitem__)
        return Detections(image, self.label, self.box, self.score)


def read_detections(path: Path, truth: Mapping[str, Any]) -> Detections:
    """Return the detections in a file of ``kd predict``, positioned in the ground truth.

    UserError if it is absent, damaged, or has other images or classes.
    """
    return position(path, read_predictions(path), truth)


def position(path: Path, content: Any, truth: Mapping[str, Any]) -> Detections:
    """Return the detections in the content of a file, positioned in the ground truth."""
    try:
        return StoredDetections.parse(content).positioned(truth)
    except UserError as error:
        raise UserError(
            f"{path}: {error}; predict again: kd predict {step_arguments(path.parent)}"
        ) from None


def coco_results(detections: Detections, truth: Mapping[str, Any]) -> list[Detection]:
    """Return COCO results, with the ids of images and categories of the ground truth."""
    images = list(image_positions(truth))
    categories = [category["id"] for category in truth["categories"]]
    columns = (detections.image, detections.label, detections.box, detections.score)
    return [
        {"image_id": images[image], "category_id": categories[label], "bbox": box, "score": score}
        for image, label, box, score in zip(*(column.tolist() for column in columns), strict=True)
    ]


def stored_boxes(corners: NDArray[Any]) -> Floats:
    """Return boxes (N, 4), xyxy, as files store them: xywh in pixels, thousandths.

    The numbers are those of Python's ``round``, bit for bit.
    """
    boxes = np.asarray(corners, dtype=np.float64).reshape(-1, 4)
    sides = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    scaled = sides * 1000
    whole = np.rint(scaled)
    rounded = whole / 1000
    # The product may be rounded to or across the middle of two thousandths.
    unsure = (np.abs(scaled - whole) > 0.499) | ~(np.abs(scaled) < LARGEST_SCALED)
    rounded[unsure] = [round(side, 3) for side in sides[unsure].tolist()]
    return rounded


def _columns_of(records: list[Any]) -> dict[str, list[Any]]:
    """Return the columns of records, which files of earlier versions have."""
    try:
        columns = {key: [record[key] for record in records] for key in KEYS}
        boxes = columns["bbox"]
        odd = next((box for box in boxes if len(box) != 4), None)
        if odd is not None:
            raise UserError(f"'bbox' must be x, y, width, height, not {odd}")
        return columns | {"bbox": list(chain.from_iterable(boxes))}
    except (KeyError, TypeError):
        raise UserError("not a list of detections") from None


def _numbers(values: Sequence[Any], key: str, kinds: str) -> NDArray[Any]:
    """Return a list as an array of one of numpy's ``kinds``; UserError if it has another."""
    try:
        numbers = np.array(values)
    except ValueError:  # lists of different lengths
        numbers = np.array([None])
    if len(values) and (numbers.dtype.kind not in kinds or numbers.ndim != 1):
        kind = "whole numbers" if kinds == "i" else "numbers"
        raise UserError(f"'{key}' must have {kind} alone")
    return numbers


def _is_key(name: Any, positions: Mapping[Any, int]) -> bool:
    try:
        return name in positions
    except TypeError:  # such as a list
        return False
