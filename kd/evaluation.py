"""The one evaluator: COCO figures and VOC mAP of a list of detections.

The COCO figures are those of pycocotools on the same input; hotcoco computes the precision and
recall arrays, and the twelve means are taken here. In them only ``iscrowd`` boxes are ignored: a
VOC ``difficult`` box carries ``ignore: 1, iscrowd: 0``, pycocotools overwrites ``ignore`` by
``iscrowd``, and so a difficult box counts as an ordinary one, here as there. In the VOC figures
boxes marked ``difficult``, ``ignore`` or ``iscrowd`` do not count.

One deliberate difference: annotations are numbered anew, so an annotation id of 0 or one used
twice, which pycocotools miscounts, is harmless here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, Self, TypedDict

import numpy as np
from hotcoco import COCO, COCOeval

from kd.errors import UserError, suggest
from kd.files import read_json
from kd.settings.base import Part
from kd.voc_map import Flags, Floats, Found, Integers, Precision, Truth, average_precision


class Detection(TypedDict):
    """One entry of a COCO results file."""

    image_id: int
    category_id: int
    bbox: Sequence[float]
    """x, y, width, height in pixels."""
    score: float
    segmentation: NotRequired[Any]


class ClassMetrics(Part):
    """Figures of one class, 0 to 1; None where the class has no box that counts."""

    AP: float | None
    AP50: float | None
    VOC07: float | None
    VOC12: float | None


class Metrics(Part):
    """Every figure of one evaluation, 0 to 1; None where no ground-truth box defines it."""

    AP: float | None
    """Mean over IoU 0.50 to 0.95, all sizes, at most 100 detections per image and class."""
    AP50: float | None
    AP75: float | None
    APS: float | None
    """Boxes of area up to 32^2 square pixels."""
    APM: float | None
    """Boxes of area 32^2 to 96^2 square pixels."""
    APL: float | None
    """Boxes of area from 96^2 square pixels."""
    AR1: float | None
    AR10: float | None
    AR100: float | None
    ARS: float | None
    ARM: float | None
    ARL: float | None
    VOC07: float | None
    """VOC mAP at IoU 0.5 in the 11-point form of VOC2007."""
    VOC12: float | None
    """VOC mAP at IoU 0.5 in the all-point form used since VOC2010."""
    per_class: dict[str, ClassMetrics]
    images: int
    boxes: int
    """Ground-truth boxes of the classes, those that are ignored included."""
    detections: int

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values."""
        return self.model_dump()

    @classmethod
    def from_json(cls, values: Any, where: str = "metrics") -> Self:
        """Return the figures that ``to_json`` gave; UserError naming ``where`` if they are not."""
        return cls.parse(values, where)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the figures in a JSON file; UserError where it is absent or something else."""
        return cls.from_json(read_json(path), str(path))


COCO_FIGURES = (
    *("AP", "AP50", "AP75", "APS", "APM", "APL"),
    *("AR1", "AR10", "AR100", "ARS", "ARM", "ARL"),
)
"""The twelve figures in the order of pycocotools' ``COCOeval.stats``."""

# Axes of the engine's arrays: precision (IoU, recall, class, size, limit), recall the same but one.
IOU50, IOU75 = 0, 5
ALL, SMALL, MEDIUM, LARGE = range(4)
LIMIT1, LIMIT10, LIMIT100 = range(3)


@dataclass(frozen=True)
class _Columns:
    """Boxes as columns: image and label (N,) as positions from 0, box (N, 4) xywh in pixels."""

    image: Integers
    label: Integers
    box: Floats

    @property
    def xyxy(self) -> Floats:
        return np.hstack([self.box[:, :2], self.box[:, :2] + self.box[:, 2:]])


def evaluate(
    ground_truth: Mapping[str, Any], detections: Sequence[Detection], classes: Sequence[str]
) -> Metrics:
    """Return every figure of ``detections`` against a COCO ``ground_truth``.

    ``classes`` are the category names that count, in the order of the report; annotations of other
    categories are left out. Boxes are xywh in pixels. Equal scores rank by image id, then by the
    order of the list. UserError: an id or name that the ground truth lacks, a box or score that is
    missing or not finite, a name or id given twice.
    """
    for key in ("images", "categories", "annotations"):
        if key not in ground_truth:
            raise UserError(f"ground truth: no '{key}'")
    images = _positions(_field("image", ground_truth["images"], "id"))
    labels = _labels(ground_truth["categories"], classes)
    kept = _annotations_of(ground_truth, labels)
    truth = _columns("annotation", kept, images, labels)
    found = _columns("detection", detections, images, labels)
    scores = _scores(detections)

    precision, recall = _coco_arrays(kept, truth, found, scores, len(images), classes)
    voc = _voc(kept, truth, found, scores, len(classes))
    return Metrics(
        **_figures(precision, recall),
        **_voc_means(voc),
        per_class={
            name: _class_metrics(precision[:, :, index, ALL, LIMIT100], voc[index])
            for index, name in enumerate(classes)
        },
        images=len(images),
        boxes=len(kept),
        detections=len(detections),
    )


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


def _columns(
    what: str, records: Sequence[Any], images: Mapping[Any, int], labels: Mapping[Any, int]
) -> _Columns:
    _require_known(what, "image id", records, images)
    _require_known(what, "category id", records, labels)
    return _Columns(
        np.array([images[record["image_id"]] for record in records], dtype=np.int64),
        np.array([labels[record["category_id"]] for record in records], dtype=np.int64),
        _finite_boxes(what, records),
    )


def _require_known(what: str, key: str, records: Sequence[Any], known: Iterable[Any]) -> None:
    field = key.replace(" ", "_")
    unknown = sorted(set(_field(what, records, field)) - set(known), key=str)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        listed = ", ".join(map(str, unknown[:5])) + more
        raise UserError(f"{what}s whose {key} is not among those evaluated: {listed}")


def _field(what: str, records: Sequence[Any], key: str) -> list[Any]:
    try:
        return [record[key] for record in records]
    except KeyError:
        index = next(i for i, record in enumerate(records) if key not in record)
        raise UserError(f"{what} {index} has no '{key}'") from None


def _finite_boxes(what: str, records: Sequence[Any]) -> Floats:
    listed = _field(what, records, "bbox")
    for index, box in enumerate(listed):
        if len(box) != 4:
            raise UserError(f"{what} {index}: bbox must be x, y, width, height, not {box}")
    boxes = np.array(listed, dtype=np.float64).reshape(-1, 4)
    _require_finite(what, "bbox", boxes.sum(axis=1), records)
    return boxes


def _scores(detections: Sequence[Detection]) -> Floats:
    scores = np.array(_field("detection", detections, "score"), dtype=np.float64)
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


def _coco_arrays(
    annotations: Sequence[Any],
    truth: _Columns,
    found: _Columns,
    scores: Floats,
    images: int,
    classes: Sequence[str],
) -> tuple[Floats, Floats]:
    """Return precision (10, 101, K, 4, 3) and recall (10, K, 4, 3), -1 where undefined."""
    target = COCO.from_arrays(
        [{"id": number} for number in range(1, images + 1)],
        [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
        truth.image + 1,
        truth.label + 1,
        truth.box,
        area=_areas(annotations),
        iscrowd=_flags(annotations, "iscrowd"),
    )
    rows = np.column_stack([found.image + 1, found.box, scores, found.label + 1])
    engine = COCOeval(target, target.load_res(rows), "bbox")
    engine.evaluate()
    engine.accumulate()
    arrays = engine.eval
    assert arrays is not None
    return arrays["precision"], arrays["recall"]


def _areas(annotations: Sequence[Any]) -> Floats:
    """Return (G,) square pixels: of the object's mask where the file says so, else of the box."""
    listed = [item.get("area", item["bbox"][2] * item["bbox"][3]) for item in annotations]
    areas = np.array(listed, dtype=np.float64)
    _require_finite("annotation", "area", areas, annotations)
    return areas


def _flags(annotations: Sequence[Any], *keys: str) -> Flags:
    """Return (G,): whether an annotation sets any of ``keys``."""
    return np.array([any(item.get(key) for key in keys) for item in annotations], dtype=bool)


def _figures(precision: Floats, recall: Floats) -> dict[str, float | None]:
    """Return the twelve COCO figures."""
    sized = {"S": SMALL, "M": MEDIUM, "L": LARGE}
    limited = {"1": LIMIT1, "10": LIMIT10, "100": LIMIT100}
    average = precision[..., LIMIT100]
    return {
        "AP": _mean(average[..., ALL]),
        "AP50": _mean(average[IOU50, ..., ALL]),
        "AP75": _mean(average[IOU75, ..., ALL]),
        **{f"AP{name}": _mean(average[..., area]) for name, area in sized.items()},
        **{f"AR{name}": _mean(recall[:, :, ALL, limit]) for name, limit in limited.items()},
        **{f"AR{name}": _mean(recall[:, :, area, LIMIT100]) for name, area in sized.items()},
    }


def _mean(values: Floats) -> float | None:
    """Return the mean of the defined entries, or None where there is none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _voc(
    annotations: Sequence[Any], truth: _Columns, found: _Columns, scores: Floats, classes: int
) -> list[Precision | None]:
    ignored = _flags(annotations, "ignore", "difficult", "iscrowd")
    true_box, found_box = truth.xyxy, found.xyxy
    results = []
    for label in range(classes):
        wanted, given = truth.label == label, found.label == label
        target = Truth(truth.image[wanted], true_box[wanted], ignored[wanted])
        results.append(
            average_precision(target, Found(found.image[given], found_box[given], scores[given]))
        )
    return results


def _voc_means(results: Sequence[Precision | None]) -> dict[str, float | None]:
    defined = np.array([result for result in results if result], dtype=np.float64).reshape(-1, 2)
    return {"VOC07": _mean(defined[:, 0]), "VOC12": _mean(defined[:, 1])}


def _class_metrics(precision: Floats, voc: Precision | None) -> ClassMetrics:
    """``precision`` is (IoU, recall) of the class over all sizes."""
    return ClassMetrics(
        AP=_mean(precision),
        AP50=_mean(precision[IOU50]),
        VOC07=voc.eleven_point if voc else None,
        VOC12=voc.all_point if voc else None,
    )
