"""Metrics of a run from its detections; needs neither torch nor a GPU."""

from pathlib import Path
from typing import Any

from kd.classifiers import evaluation as classifiers
from kd.columns import Detection
from kd.data.readers import read_split
from kd.errors import UserError
from kd.evaluation import Metrics, evaluate
from kd.files import read_json, read_predictions, uncollected, write_json
from kd.settings.library import Library
from kd.settings.run import read_config


def measure(directory: Path, library: Library) -> None:
    """Write ``metrics.json`` from ``detections.json.gz``, or a classifier's predictions."""
    config = read_config(directory)
    if config["model"]["type"] == "ObjectClassifier":
        return classifiers.measure(config, directory)
    with uncollected():
        truth = truth_of(directory, library)
        detections = read_detections(directory / "detections.json.gz", truth)
        write_json(directory / "metrics.json", figures(detections, truth).to_json())


def truth_of(directory: Path, library: Library) -> dict[str, Any]:
    """Return the COCO dict of the split that a run is measured on."""
    dataset = library.dataset(read_json(directory / "run.json")["dataset"], str(directory))
    return read_split(dataset, "test").coco


def figures(detections: list[Detection], truth: dict[str, Any]) -> Metrics:
    """Return the figures of COCO results over all classes of the ground truth."""
    return evaluate(truth, detections, [category["name"] for category in truth["categories"]])


def read_detections(path: Path, truth: dict[str, Any]) -> list[Detection]:
    """Return the COCO results in a file of ``kd predict``, with the ground truth's ids.

    UserError where it is absent, damaged, or of other images or classes.
    """
    try:
        with uncollected():
            return coco_results(read_predictions(path), truth)
    except KeyError as error:
        raise UserError(
            f"{path}: image or class {error} is not in the test split; predict again"
        ) from None
    except TypeError:
        raise UserError(f"{path}: not a list of detections; predict again") from None


def coco_results(records: list[dict[str, Any]], truth: dict[str, Any]) -> list[Detection]:
    """Return records of ``kd predict`` with the ground truth's ids of images and categories."""
    images = {image.get("name", image["id"]): image["id"] for image in truth["images"]}
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
