"""Objects and detections as columns, checked: what the evaluator and the analyses start from."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, NotRequired, TypedDict

import numpy as np

from kd.common.errors import UserError, suggest
from kd.evaluation.voc import Flags, Floats, Found, Integers, Truth


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
    """Boxes as columns: image and label (N,) as positions from 0, box (N, 4) xywh in pixels."""

    image: Integers
    label: Integers
    box: Floats

    @property
    def xyxy(self) -> Floats:
        return np.hstack([self.box[:, :2], self.box[:, :2] + self.box[:, 2:]])


@dataclass(frozen=True)
class Objects(Boxes):
    """The objects of the classes, in the order of the file."""

    annotations: Sequence[Mapping[str, Any]]
    area: Floats
    """(N,) square pixels: of the object's mask where the file says so, else of the box."""
    crowd: Flags

    @property
    def voc_ignored(self) -> Flags:
        """(N,): those that do not count in VOC figures."""
        return _flags(self.annotations, "ignore", "difficult", "iscrowd")


@dataclass(frozen=True)
class Detections(Boxes):
    """Detections in the order of the list."""

    score: Floats


def read(
    ground_truth: Mapping[str, Any], detections: Sequence[Detection], classes: Sequence[str]
) -> tuple[list[Any], Objects, Detections]:
    """Return the ids of the images, the objects and the detections of a COCO ``ground_truth``.

    Label i is ``classes[i]``, image i the i-th smallest id; annotations of other categories are
    left out. UserError: an id or name that the ground truth lacks, a box or score that is missing
    or not finite, a name or id given twice.
    """
    for key in ("images", "categories", "annotations"):
        if key not in ground_truth:
            raise UserError(f"ground truth: no '{key}'")
    images = _positions(_field("image", ground_truth["images"], "id"))
    labels = _labels(ground_truth["categories"], classes)
    kept = _annotations_of(ground_truth, labels)
    objects = Objects(
        *_boxes("annotation", kept, images, labels), kept, _areas(kept), _flags(kept, "iscrowd")
    )
    found = Detections(*_boxes("detection", detections, images, labels), _scores(detections))
    return list(images), objects, found


def by_class(
    objects: Objects, found: Detections, classes: int
) -> Iterator[tuple[Truth, Found, Integers]]:
    """Yield each class as ``kd.evaluation.voc`` takes it, and its detections' positions in the
    list.
    """
    ignored, true_box, found_box = objects.voc_ignored, objects.xyxy, found.xyxy
    for wanted, given in zip(_groups(objects, classes), _groups(found, classes), strict=True):
        truth = Truth(objects.image[wanted], true_box[wanted], ignored[wanted])
        yield truth, Found(found.image[given], found_box[given], found.score[given]), given


def _groups(boxes: Boxes, classes: int) -> list[Integers]:
    """Return each class's positions, rising."""
    # numpy sorts integers of 8 and 16 bits by their digits, ten times as fast as longer ones.
    order = np.argsort(boxes.label.astype(np.min_scalar_type(classes)), kind="stable")
    return np.split(order, np.cumsum(np.bincount(boxes.label, minlength=classes))[:-1])


def _positions(ids: Sequence[Any]) -> dict[Any, int]:
    """Return each image id's rank: the engine breaks ties by it, as pycocotools does by the id."""
    positions = {key: rank for rank, key in enumerate(sorted(set(ids)))}
    if len(positions) < len(ids):
        raise UserError(f"ground truth: image id {_repeated(ids)} is used twice")
    return positions


def _labels(categories: Sequence[Any], classes: Sequence[str]) -> dict[Any, int]:
    """Return the label of each category id: the position of its name in ``classes``."""
    if not classes:
        raise UserError("no class to evaluate")
    names = _field("category", categories, "name")
    ids = dict(zip(names, _field("category", categories, "id"), strict=True))
    for what, listed in (("category", names), ("class", classes)):
        if len(set(listed)) < len(listed):
            raise UserError(f"{what} '{_repeated(listed)}' is listed twice")
    for name in classes:
        if name not in ids:
            raise UserError(f"class '{name}' is not in the ground truth; {suggest(name, ids)}")
    return {ids[name]: label for label, name in enumerate(classes)}


def _annotations_of(ground_truth: Mapping[str, Any], labels: Mapping[Any, int]) -> list[Any]:
    """Return the annotations of the classes; UserError where one has no category at all."""
    known = {category["id"] for category in ground_truth["categories"]}
    _require_known("annotation", "category id", ground_truth["annotations"], known)
    return [item for item in ground_truth["annotations"] if item["category_id"] in labels]


def _repeated(listed: Sequence[Any]) -> Any:
    return next(item for item, count in Counter(listed).items() if count > 1)


def _boxes(
    what: str, records: Sequence[Any], images: Mapping[Any, int], labels: Mapping[Any, int]
) -> tuple[Integers, Integers, Floats]:
    """Return image, label and box as ``Boxes`` has them."""
    return (
        _positions_of(what, "image id", records, images),
        _positions_of(what, "category id", records, labels),
        _finite_boxes(what, records),
    )


# A column is taken in one sweep without a Python step for each record, and only where that fails
# is looked for what is wrong: a result of COCO's validation split has half a million records.
def _positions_of(
    what: str, key: str, records: Sequence[Any], known: Mapping[Any, int]
) -> Integers:
    """Return (N,): what each record's id stands for."""
    ids = map(itemgetter(_field_of(key)), records)
    try:
        return np.fromiter(map(known.__getitem__, ids), np.int64, len(records))
    except KeyError:
        _require_known(what, key, records, known)
        raise


def _column(what: str, records: Sequence[Any], key: str) -> Floats:
    """Return (N,) numbers."""
    try:
        return np.fromiter(map(itemgetter(key), records), np.float64, len(records))
    except KeyError:
        _field(what, records, key)
        raise


def _require_known(what: str, key: str, records: Sequence[Any], known: Iterable[Any]) -> None:
    unknown = sorted(set(_field(what, records, _field_of(key))) - set(known), key=str)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        listed = ", ".join(map(str, unknown[:5])) + more
        raise UserError(f"{what}s whose {key} is not among those evaluated: {listed}")


def _field_of(key: str) -> str:
    return key.replace(" ", "_")


def _field(what: str, records: Sequence[Any], key: str) -> list[Any]:
    try:
        return list(map(itemgetter(key), records))
    except KeyError:
        index = next(i for i, record in enumerate(records) if key not in record)
        raise UserError(f"{what} {index} has no '{key}'") from None


def _finite_boxes(what: str, records: Sequence[Any]) -> Floats:
    listed = _field(what, records, "bbox")
    if not set(map(type, listed)) <= {list, tuple} or set(map(len, listed)) - {4}:
        _require_boxes(what, listed)
    boxes = np.fromiter(chain.from_iterable(listed), np.float64, 4 * len(listed)).reshape(-1, 4)
    _require_finite(what, "bbox", boxes.sum(axis=1), records)
    return boxes


def _require_boxes(what: str, listed: Sequence[Any]) -> None:
    for index, box in enumerate(listed):
        if np.ndim(box) != 1 or len(box) != 4:
            raise UserError(f"{what} {index}: bbox must be x, y, width, height, not {box}")


def _scores(detections: Sequence[Detection]) -> Floats:
    scores = _column("detection", detections, "score")
    _require_finite("detection", "score", scores, detections)
    return scores


def _require_finite(what: str, key: str, values: Floats, records: Sequence[Any]) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        record = records[bad[0]]
        raise UserError(
            f"{what} {bad[0]} of image {record['image_id']}: {key} {record[key]} is not finite "
            f"({len(bad)} such {what}s)"
        )


def _areas(annotations: Sequence[Any]) -> Floats:
    """Return (G,) square pixels: of the object's mask where the file says so, else of the box."""
    listed = [item.get("area", item["bbox"][2] * item["bbox"][3]) for item in annotations]
    areas = np.array(listed, dtype=np.float64)
    _require_finite("annotation", "area", areas, annotations)
    return areas


def _flags(annotations: Sequence[Any], *keys: str) -> Flags:
    """Return (G,): whether an annotation sets any of ``keys``."""
    flags = np.zeros(len(annotations), dtype=bool)
    for key in keys:
        flags |= np.fromiter((bool(item.get(key)) for item in annotations), bool, len(annotations))
    return flags
