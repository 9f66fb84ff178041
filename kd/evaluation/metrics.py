"""Evaluator: COCO metrics and VOC mAP of a list of detections.

The COCO metrics equal those of pycocotools on the same input. hotcoco computes the precision and
recall arrays, and this module the twelve means. Only ``iscrowd`` boxes are ignored in them. A VOC
``difficult`` box has ``ignore: 1, iscrowd: 0``, and pycocotools overwrites ``ignore`` by
``iscrowd``, so a difficult box counts as an ordinary one, here as there. In the VOC metrics
boxes marked ``difficult``, ``ignore`` or ``iscrowd`` do not count.

One difference is deliberate: annotations are renumbered. pycocotools miscounts an annotation id of
0 or one that is used twice; here both are harmless.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from hotcoco import COCO, COCOeval

from kd.common.files import read_json
from kd.common.schema import Part
from kd.evaluation.calibration import detection_ece, localization_ece
from kd.evaluation.detections import Detections, Objects, Results, by_class, read
from kd.evaluation.lrp import LRP, LRP_IOU, SCORE, class_means, optimal_lrp
from kd.evaluation.matching import match, pair_columns
from kd.evaluation.voc import Floats, Precision, average_precision


class ClassMetrics(Part):
    """Metrics of one class, 0 to 1; None if the class has no box that counts."""

    AP: float | None
    AP50: float | None
    VOC07: float | None
    VOC12: float | None
    oLRP: float | None = None
    """Lower is better; 1 if no object is detected."""
    oLRP_score: float | None = None
    """Score threshold with the lowest LRP; None if no object is detected."""


class Metrics(Part):
    """Metrics of one evaluation, 0 to 1; None if no ground-truth box defines the metric."""

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
    oLRP: float | None = None
    """Lowest LRP over score thresholds at IoU 0.5, mean over classes; lower is better, as in all
    that follow. These measures are absent in files of earlier versions."""
    oLRP_loc: float | None = None
    """Mean 1 - IoU of the true positives at the lowest LRP, 0 to 0.5."""
    oLRP_FP: float | None = None
    """1 - precision there."""
    oLRP_FN: float | None = None
    """1 - recall there."""
    D_ECE: float | None = None
    """Gap between confidence and precision at IoU 0.5, 20 bins; None without detections."""
    LaECE: float | None = None
    """Gap between confidence and precision times IoU, 25 bins, mean over classes."""
    LaECE0: float | None = None
    """LaECE with an IoU threshold of 0."""
    per_class: dict[str, ClassMetrics]
    images: int
    boxes: int
    """Ground-truth boxes of the classes, including ignored ones."""
    detections: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the metrics in a JSON file; UserError if it is absent or has other content."""
        return cls.parse(read_json(path), str(path))


COCO_METRICS = (
    *("AP", "AP50", "AP75", "APS", "APM", "APL"),
    *("AR1", "AR10", "AR100", "ARS", "ARM", "ARL"),
)
"""The twelve metrics in the order of pycocotools' ``COCOeval.stats``."""

LRP_METRICS = ("oLRP", "oLRP_loc", "oLRP_FP", "oLRP_FN")
CALIBRATION_METRICS = ("D_ECE", "LaECE", "LaECE0")

IOU50, IOU75 = 0, 5
ALL, SMALL, MEDIUM, LARGE = range(4)


class CocoArrays(NamedTuple):
    """The engine's results, -1 where undefined; K classes."""

    precision: Floats
    """IoU, recall, class, size (10, 101, K, 4) of at most 100 detections of an image and class."""
    recall: Floats
    """IoU, class, size (10, K, 4) of as many."""
    limited_recall: Floats
    """IoU, class, limit (10, K, 2) of at most 1 and 10 detections, all sizes."""


def evaluate(
    ground_truth: Mapping[str, Any], detections: Results, classes: Sequence[str]
) -> Metrics:
    """Return every metric of ``detections`` against a COCO ``ground_truth``.

    ``detections`` are records or columns, whose label i is ``classes[i]``. ``classes``: the
    category names to evaluate, in the order of the report; annotations of other categories are left
    out. Boxes are xywh in pixels. Equal scores rank by image id, then by the
    order of the list. UserError for an id or name that the ground truth lacks, for a box or score
    that is missing or not finite, and for a repeated name or id.
    """
    images, objects, columns = read(ground_truth, detections, classes)
    with ThreadPoolExecutor(2) as executor:  # the engine computes without holding Python's lock
        coco_future = executor.submit(_coco_arrays, objects, columns, len(images), classes)
        pairing_future = executor.submit(_pair_metrics, images, classes, objects, columns)
        voc = _voc(objects, columns, len(classes))
    coco = coco_future.result()
    lrp, calibration = pairing_future.result()
    return Metrics(
        **_coco_metrics(coco),
        **_voc_means(voc),
        **dict(zip(LRP_METRICS, map(_defined, class_means(lrp[..., None])[:, 0]), strict=True)),
        **calibration,
        per_class={
            name: _class_metrics(coco.precision[:, :, index, ALL], voc[index], lrp[:, index])
            for index, name in enumerate(classes)
        },
        images=len(images),
        boxes=len(objects.box),
        detections=len(columns.score),
    )


def _coco_arrays(
    objects: Objects, detections: Detections, images: int, classes: Sequence[str]
) -> CocoArrays:
    """Return precision and recall of every IoU, class and size."""
    # Ids are positions from 1. The engine numbers the annotations, so no id is 0 or repeated.
    target = COCO.from_arrays(
        [{"id": number} for number in range(1, images + 1)],
        [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
        objects.image + 1,
        objects.label + 1,
        objects.box,
        area=objects.area,
        iscrowd=objects.crowd,
    )
    rows = np.column_stack(
        [detections.image + 1, detections.box, detections.score, detections.label + 1]
    )
    engine = COCOeval(target, target.load_res(rows), "bbox")
    # No metric limits the detections to 1 or 10 for one size alone.
    engine.params.maxDets = [100]
    engine.evaluate()
    precision, recall = _accumulated(engine)
    engine.params.maxDets = [1, 10]
    engine.params.areaRng, engine.params.areaRngLbl = engine.params.areaRng[:1], ["all"]
    _, limited_recall = _accumulated(engine)
    return CocoArrays(precision[..., 0], recall[..., 0], limited_recall[:, :, 0])


def _accumulated(engine: COCOeval) -> tuple[Floats, Floats]:
    """Return precision and recall with the axes (IoU, recall, class, size, limit)."""
    engine.accumulate()
    assert engine.eval is not None
    return engine.eval["precision"], engine.eval["recall"]


def _pair_metrics(
    images: list[Any], classes: Sequence[str], objects: Objects, detections: Detections
) -> tuple[Floats, dict[str, float | None]]:
    """Return LRP (5, K) as in ``optimal_lrp``, and the calibration errors by their names."""
    pairing = pair_columns(images, list(classes), objects, detections, 0.0, any_class=False)
    matches = match(pairing, LRP_IOU)
    errors = (
        detection_ece(pairing, matches),
        localization_ece(pairing, matches),
        localization_ece(pairing, match(pairing, 0.0)),
    )
    lrp = optimal_lrp(pairing, matches)[..., 0]
    return lrp, dict(zip(CALIBRATION_METRICS, errors, strict=True))


def _coco_metrics(coco: CocoArrays) -> dict[str, float | None]:
    """Return the twelve COCO metrics."""
    sized = {"S": SMALL, "M": MEDIUM, "L": LARGE}
    return {
        "AP": _mean(coco.precision[..., ALL]),
        "AP50": _mean(coco.precision[IOU50, ..., ALL]),
        "AP75": _mean(coco.precision[IOU75, ..., ALL]),
        **{f"AP{name}": _mean(coco.precision[..., size]) for name, size in sized.items()},
        "AR1": _mean(coco.limited_recall[..., 0]),
        "AR10": _mean(coco.limited_recall[..., 1]),
        "AR100": _mean(coco.recall[..., ALL]),
        **{f"AR{name}": _mean(coco.recall[..., size]) for name, size in sized.items()},
    }


def _mean(values: Floats) -> float | None:
    """Return the mean of the defined entries; None if there is none."""
    defined = values[values > -1]  # the engine marks undefined entries by -1
    return float(defined.mean()) if defined.size else None


def _voc(objects: Objects, detections: Detections, classes: int) -> list[Precision | None]:
    return [
        average_precision(class_objects, class_detections)
        for class_objects, class_detections, _ in by_class(objects, detections, classes)
    ]


def _voc_means(precisions: Sequence[Precision | None]) -> dict[str, float | None]:
    defined = np.array([ap for ap in precisions if ap], dtype=np.float64).reshape(-1, 2)
    return {"VOC07": _mean(defined[:, 0]), "VOC12": _mean(defined[:, 1])}


def _class_metrics(precision: Floats, voc: Precision | None, lrp: Floats) -> ClassMetrics:
    """Return the metrics of a class; ``precision``: (IoU, recall) over all sizes, ``lrp``: (5,)."""
    return ClassMetrics(
        AP=_mean(precision),
        AP50=_mean(precision[IOU50]),
        VOC07=voc.eleven_point if voc else None,
        VOC12=voc.all_point if voc else None,
        oLRP=_defined(lrp[LRP]),
        oLRP_score=_defined(lrp[SCORE]),
    )


def _defined(value: float) -> float | None:
    """Return a number; None for NaN."""
    return None if np.isnan(value) else float(value)
