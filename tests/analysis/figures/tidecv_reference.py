"""Results of tidecv for COCO results, in the form of ``analysis.figures.tide.errors``."""

from typing import Any, NamedTuple

from tidecv import TIDE
from tidecv.data import Data

MOST_DETECTIONS = 100
SHORT_NAMES = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")


class Reference(NamedTuple):
    ap: float
    gains: list[float]
    """AP points of the six main errors, then of false positives and false negatives."""
    counts: list[int]
    """Numbers of the six main errors."""


def ground_truth(truth: dict[str, Any]) -> Data:
    """Return a COCO dict as tidecv's data; ``tidecv.datasets.COCO`` would need segmentation."""
    data = Data("truth", MOST_DETECTIONS)
    for image in truth["images"]:
        data.add_image(image["id"], str(image["id"]))
    for category in truth["categories"]:
        data.add_class(category["id"], category["name"])
    for item in truth["annotations"]:
        add = data.add_ignore_region if item["iscrowd"] else data.add_ground_truth
        add(item["image_id"], item["category_id"], item["bbox"], None)
    return data


def results(detections: list[dict[str, Any]]) -> Data:
    data = Data("detections", MOST_DETECTIONS)
    for item in detections:
        data.add_detection(item["image_id"], item["category_id"], item["score"], item["bbox"])
    return data


def reference(
    truth: dict[str, Any], detections: list[dict[str, Any]], iou: float, background: float = 0.1
) -> Reference:
    """Return tidecv's results; TIDE_PATH must be set to a folder that it can create."""
    tide = TIDE(pos_threshold=iou, background_threshold=background)
    run = tide.evaluate(ground_truth(truth), results(detections))
    main, special = run.fix_main_errors(), run.fix_special_errors()
    assert tuple(error.short_name for error in main) == SHORT_NAMES
    counts = run.count_errors()
    return Reference(run.ap, [*main.values(), *special.values()], [counts[key] for key in main])
