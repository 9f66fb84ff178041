"""Metrics of a run from its detections; needs neither torch nor a GPU."""

from pathlib import Path
from typing import Any

from kd.classifiers import evaluation as classifiers
from kd.columns import Detection
from kd.data.readers import read_split
from kd.errors import UserError
from kd.evaluation import evaluate
from kd.files import read_json, read_predictions, write_json
from kd.settings.library import Library
from kd.settings.run import read_config


def measure(directory: Path, library: Library) -> None:
    """Write ``metrics.json`` from ``detections.json.gz``, or a classifier's predictions."""
    config = read_config(directory)
    if config["model"]["type"] == "ObjectClassifier":
        return classifiers.measure(config, directory)
    dataset = library.dataset(read_json(directory / "run.json")["dataset"], str(directory))
    truth = read_split(dataset, "test").coco
    detections = read_detections(directory / "detections.json.gz", truth)
    classes = [category["name"] for category in truth["categories"]]
    write_json(directory / "metrics.json", evaluate(truth, detections, classes).to_json())


def read_detections(path: Path, truth: dict[str, Any]) -> list[Detection]:
    """Return the COCO results in a file of ``kd predict``, with the ground truth's ids.

    UserError where it is absent, damaged, or of other images or classes.
    """
    records = read_predictions(path)
    try:
        return _coco_results(records, truth)
    except KeyError as error:
        raise UserError(
            f"{path}: image or class {error} is not in the test split; predict again"
        ) from None
    except TypeError:
        raise UserError(f"{path}: not a list of detections; predict again") from None


def _coco_results(records: list[dict[str, Any]], truth: dict[str, Any]) -> list[Detection]:
    """Translate mmdet's image ids and labels into those of the ground truth."""
    images = {image.get("name", image["id"]): image["id"] for image in truth["images"]}
    categories = dict(enumerate(category["id"] for category in truth["categories"]))
    return [
        Detection(
            image_id=images[record["image"]],
            category_id=categories[record["label"]],
            bbox=record["bbox"],
            score=record["score"],
        )
        for record in records
    ]
