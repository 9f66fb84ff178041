"""Metrics of a run from its detections, without torch or a GPU."""

from pathlib import Path
from typing import Any

from kd.classifiers import evaluation as classifiers
from kd.common.errors import UserError
from kd.common.files import read_predictions, uncollected, write_json
from kd.config.composed import ComposedConfig, read_config
from kd.config.library import Library
from kd.data.readers import GroundTruth, read_split
from kd.evaluation.detections import Detection
from kd.evaluation.metrics import Metrics, evaluate
from kd.records import inputs

DETECTIONS = "detections.json.gz"


def measure(directory: Path, library: Library) -> None:
    """Write ``metrics.json`` from ``detections.json.gz``, or a classifier's predictions.

    UserError if these were predicted with other weights or on another test split.
    """
    config = read_config(directory)
    is_classifier = ComposedConfig(config).kind == "classifier"
    predictions = directory / (classifiers.PREDICTIONS if is_classifier else DETECTIONS)
    with uncollected():
        if is_classifier:
            data = inputs.split_fingerprint(config, directory, "test", library)
            metrics = classifiers.metrics(config, predictions)
        else:
            split = truth_of(directory, library)
            data = split.fingerprint
            metrics = metrics_of(read_detections(predictions, split.coco), split.coco).model_dump()
    depends = inputs.of_evaluation(directory, predictions, data, "evaluation")
    write_json(directory / "metrics.json", metrics)
    inputs.record(directory, "evaluation", depends)


def truth_of(directory: Path, library: Library) -> GroundTruth:
    """Return the test split of a detector's run; UserError if its entry changed since."""
    _, dataset = inputs.entry_of(read_config(directory), directory, "test", library)
    return read_split(dataset, "test")


def metrics_of(detections: list[Detection], truth: dict[str, Any]) -> Metrics:
    """Return the metrics of COCO results over all classes of the ground truth."""
    return evaluate(truth, detections, [category["name"] for category in truth["categories"]])


def read_detections(path: Path, truth: dict[str, Any]) -> list[Detection]:
    """Return the COCO results in a file of ``kd predict``, with the ground truth's ids.

    UserError if it is absent, damaged, or has other images or classes.
    """
    try:
        with uncollected():
            return coco_results(read_predictions(path), truth)
    except KeyError as error:
        raise UserError(
            f"{path}: image or class {error} is not in the test split; predict again: "
            f"kd predict {path.parent}"
        ) from None
    except TypeError:
        raise UserError(
            f"{path}: not a list of detections; predict again: kd predict {path.parent}"
        ) from None


def coco_results(records: list[dict[str, Any]], truth: dict[str, Any]) -> list[Detection]:
    """Return records of ``kd predict`` with the ground truth's ids of images and categories.

    A record names an image as mmdet does: by ``img_id`` (VOC), otherwise by ``id``. Images of COCO
    may have a ``name``, which means something else.
    """
    images = {image.get("img_id", image["id"]): image["id"] for image in truth["images"]}
    categories = dict(enumerate(category["id"] for category in truth["categories"]))
    return [
        {
            "image_id": images[record["image"]],
            "category_id": categories[record["label"]],
            "bbox": record["bbox"],
            "score": record["score"],
        }
        for record in records
    ]
