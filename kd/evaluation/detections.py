"""Objects and detections as checked columns, the input of the evaluator and of analyses."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any, NotRequired, TypedDict

import numpy as np

from kd.common.errors import UserError, suggest
from kd.evaluation.voc import ClassDetections, ClassObjects, Flags, Floats, Integers


class Detection(TypedDict):
    """One entry of a COCO results file."""

    image_id: int
    category_id: int
    bbox: Sequence[float]
    """x, y, width, height in pixels."""
    score: float
    segmentation: NotRequired[Any]


@dataclass(frozen=True)
class Boxes:
    """Columns of boxes: image and label (N,) as positions from 0, box (N, 4) xywh in pixels."""

    image: Integers
    label: Integers
    box: Floats

    def xyxy(self, rows: Integers) -> Floats:
        """Return the boxes of ``rows`` (N,) as (N, 4) xyxy."""
        corners = self.box.take(rows, axis=0)  # several times as fast as indexing
        corners[:, 2:] += corners[:, :2]
        return corners


@dataclass(frozen=True)
class Objects(Boxes):
    """Objects of the evaluated classes, in the order of the file."""

    annotations: Sequence[Mapping[str, Any]]
    area: Floats
    """(N,) square pixels: the file's ``area``, of the object's mask, otherwise of the box."""
    crowd: Flags

    @property
    def voc_ignored(self) -> Flags:
        """(N,): the objects that do not count in the VOC metrics."""
        return _flags(self.annotations, "ignore", "difficult", "iscrowd")


@dataclass(frozen=True)
class Detections(Boxes):
    """Detections in the order of the results file."""

    score: Floats

    @cached_property
    def ranking(self) -> Integers:
        """(N,): rows by label, falling score, image, order in the file.

        One integer for each row has all four keys: numpy sorts a column several times as fast as
        four of them.
        """
        count = len(self.score)
        by_score = np.argsort(-self.score)  # equal scores in any order, and of one rank
        scores = self.score[by_score]
        rank, place = np.empty(count, np.int64), np.empty(count, np.int64)
        rank[by_score] = np.cumsum(np.diff(scores, prepend=scores[:1]) != 0)
        place[np.argsort(self.image, kind="stable")] = np.arange(count)
        return np.argsort((self.label * count + rank) * count + place)


Results = Sequence[Detection] | Detections
"""Detections as COCO results, or as columns."""


def read(
    ground_truth: Mapping[str, Any], detections: Results, classes: Sequence[str]
) -> tuple[list[Any], Objects, Detections]:
    """Return the image ids, the objects and the detections of a COCO ``ground_truth``.

    Label i is ``classes[i]`` and image i has the i-th smallest id, also in columns, which are
    returned unchanged. Annotations of other categories are left out. UserError for an id or name
    that the ground truth lacks, for a box or score that is missing or not finite, and for a
    repeated name or id.
    """
    for key in ("images", "categories", "annotations"):
        if key not in ground_truth:
            raise UserError(f"ground truth: key '{key}' is missing")
    images = image_positions(ground_truth)
    labels = _labels(ground_truth["categories"], classes)
    annotations = _annotations_of(ground_truth, labels)
    objects = Objects(
        *_boxes("annotation", annotations, images, labels),
        annotations,
        _areas(annotations),
        _flags(annotations, "iscrowd"),
    )
    if not isinstance(detections, Detections):
        boxes = _boxes("detection", detections, images, labels)
        detections = Detections(*boxes, _scores(detections))
    return list(images), objects, detections


def by_class(
    objects: Objects, detections: Detections, classes: int
) -> Iterator[tuple[ClassObjects, ClassDetections, Integers]]:
    """Yield objects and ranked detections of each class, and the positions of the latter."""
    ignored = objects.voc_ignored
    object_groups = _split(np.argsort(objects.label, kind="stable"), objects.label, classes)
    groups = _split(detections.ranking, detections.label, classes)
    for object_rows, rows in zip(object_groups, groups, strict=True):
        yield (
            ClassObjects(
                objects.image[object_rows], objects.xyxy(object_rows), ignored[object_rows]
            ),
            ClassDetections(detections.image[rows], detections.xyxy(rows), detections.score[rows]),
            rows,
        )


def _split(rows: Integers, label: Integers, classes: int) -> list[Integers]:
    """Return the rows of each class; ``rows`` are sorted by ``label``."""
    return np.split(rows, np.cumsum(np.bincount(label, minlength=classes))[:-1])


def image_positions(ground_truth: Mapping[str, Any]) -> dict[Any, int]:
    """Return each image id's rank: the engine breaks ties by it, as pycocotools does by the id.

    The ids are in the order of their ranks. UserError for a repeated id.
    """
    ids = _field("image", ground_truth["images"], "id")
    positions = {key: rank for rank, key in enumerate(sorted(set(ids)))}
    if len(positions) < len(ids):
        raise UserError(f"ground truth: image id {_repeated(ids)} is used twice")
    return positions


def _labels(categories: Sequence[Any], classes: Sequence[str]) -> dict[Any, int]:
    """Return the label of each category id: the position of its name in ``classes``."""
    if not classes:
        raise UserError("no class to evaluate; list at least one")
    names = _field("category", categories, "name")
    ids = dict(zip(names, _field("category", categories, "id"), strict=True))
    for what, values in (("category", names), ("class", classes)):
        if len(set(values)) < len(values):
            raise UserError(f"{what} '{_repeated(values)}' is listed twice")
    for name in classes:
        if name not in ids:
            raise UserError(f"class '{name}' is not in the ground truth; {suggest(name, ids)}")
    return {ids[name]: label for label, name in enumerate(classes)}


def _annotations_of(ground_truth: Mapping[str, Any], labels: Mapping[Any, int]) -> list[Any]:
    """Return the annotations of the classes; UserError if one has no category at all."""
    categories = {category["id"] for category in ground_truth["categories"]}
    _require_known("annotation", "category id", ground_truth["annotations"], categories)
    return [item for item in ground_truth["annotations"] if item["category_id"] in labels]


def _repeated(values: Sequence[Any]) -> Any:
    return next(value for value, count in Counter(values).items() if count > 1)


def _boxes(
    what: str, records: Sequence[Any], images: Mapping[Any, int], labels: Mapping[Any, int]
) -> tuple[Integers, Integers, Floats]:
    """Return image, label and box in the form of ``Boxes``."""
    return (
        _positions_of(what, "image id", records, images),
        _positions_of(what, "category id", records, labels),
        _finite_boxes(what, records),
    )


# A column is read without a Python step for each record; the cause of an error is located
# afterwards. Detections in COCO's validation split are half a million records.
def _positions_of(
    what: str, key: str, records: Sequence[Any], positions: Mapping[Any, int]
) -> Integers:
    """Return (N,): the position of each record's id."""
    ids = map(itemgetter(_field_of(key)), records)
    try:
        return np.fromiter(map(positions.__getitem__, ids), np.int64, len(records))
    except KeyError:
        _require_known(what, key, records, positions)
        raise


def _column(what: str, records: Sequence[Any], key: str) -> Floats:
    """Return (N,) numbers."""
    try:
        return np.fromiter(map(itemgetter(key), records), np.float64, len(records))
    except KeyError:
        _field(what, records, key)
        raise


def _require_known(what: str, key: str, records: Sequence[Any], ids: Iterable[Any]) -> None:
    unknown = sorted(set(_field(what, records, _field_of(key))) - set(ids), key=str)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        first_ids = ", ".join(map(str, unknown[:5])) + more
        raise UserError(f"{what}s whose {key} is not among those evaluated: {first_ids}")


def _field_of(key: str) -> str:
    return key.replace(" ", "_")


def _field(what: str, records: Sequence[Any], key: str) -> list[Any]:
    try:
        return list(map(itemgetter(key), records))
    except KeyError:
        index = next(i for i, record in enumerate(records) if key not in record)
        raise UserError(f"{what} {index} has no '{key}'") from None


def _finite_boxes(what: str, records: Sequence[Any]) -> Floats:
    rows = _field(what, records, "bbox")
    if not set(map(type, rows)) <= {list, tuple} or set(map(len, rows)) - {4}:
        _require_boxes(what, rows)
    boxes = np.fromiter(chain.from_iterable(rows), np.float64, 4 * len(rows)).reshape(-1, 4)
    require_finite(what, "bbox", boxes, _image_of(records))
    return boxes


def _require_boxes(what: str, rows: Sequence[Any]) -> None:
    for index, box in enumerate(rows):
        if np.ndim(box) != 1 or len(box) != 4:
            raise UserError(f"{what} {index}: bbox must be x, y, width, height, not {box}")


def _scores(detections: Sequence[Detection]) -> Floats:
    scores = _column("detection", detections, "score")
    require_finite("detection", "score", scores, _image_of(detections))
    return scores


def require_finite(what: str, key: str, values: Floats, image_of: Callable[[int], Any]) -> None:
    """Raise a UserError that names the first row of ``values`` (N,) or (N, 4) with NaN or infinity.

    ``image_of`` returns the id of a row's image.
    """
    finite = np.isfinite(values)
    if finite.all():
        return
    rows = np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1))
    first = int(rows[0])
    raise UserError(
        f"{what} {first} of image {image_of(first)}: {key} {values[first].tolist()} is not finite "
        f"({len(rows)} such {what}s)"
    )


def _image_of(records: Sequence[Any]) -> Callable[[int], Any]:
    return lambda row: records[row]["image_id"]


def _areas(annotations: Sequence[Any]) -> Floats:
    """Return (G,) square pixels: the file's ``area``, otherwise that of the box."""
    numbers = [item.get("area", item["bbox"][2] * item["bbox"][3]) for item in annotations]
    areas = np.array(numbers, dtype=np.float64)
    require_finite("annotation", "area", areas, _image_of(annotations))
    return areas


def _flags(annotations: Sequence[Any], *keys: str) -> Flags:
    """Return (G,): True for annotations that set any of ``keys``."""
    flags = np.zeros(len(annotations), dtype=bool)
    for key in keys:
        flags |= np.fromiter((bool(item.get(key)) for item in annotations), bool, len(annotations))
    return flags
