"""Metrics of a run from its detections, without torch or a GPU."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kd.classifiers import evaluation as classifiers
from kd.common.files import read_predictions, uncollected, write_json
from kd.common.results import results_folder
from kd.config.composed import ComposedConfig, read_config
from kd.config.library import Library
from kd.data.entry import SplitName
from kd.data.readers import GroundTruth, read_split
from kd.evaluation.detections import Results
from kd.evaluation.metrics import Metrics, evaluate
from kd.evaluation.stored import coco_results, position, read_detections
from kd.records import inputs

DETECTIONS = "detections.json.gz"


def measure(directory: Path, library: Library, split: SplitName = "test") -> Path:
    """Write ``metrics.json`` from ``detections.json.gz``, or a classifier's predictions.

    Return its path. UserError if these were predicted with other weights or on another version of
    the split, and for a split that the run does not have.
    """
    config = read_config(directory)
    is_classifier = ComposedConfig(config).kind == "classifier"
    folder = results_folder(directory, split)
    predictions = folder / (classifiers.PREDICTIONS if is_classifier else DETECTIONS)
    with uncollected():
        if is_classifier:
            data = inputs.split_fingerprint(config, directory, split, library)
            metrics = classifiers.metrics(config, predictions)
        else:
            with ThreadPoolExecutor(1) as executor:
                # gzip does not hold Python's lock, so the annotations are read meanwhile.
                content = executor.submit(read_predictions, predictions)
                truth = truth_of(directory, library, split)
            data = truth.fingerprint
            detections = position(predictions, content.result(), truth.coco)
            metrics = metrics_of(detections, truth.coco).model_dump()
    depends = inputs.of_evaluation(directory, predictions, data, "evaluation", split)
    write_json(folder / "metrics.json", metrics)
    inputs.record(folder, "evaluation", depends)
    return folder / "metrics.json"


def write_coco_results(
    directory: Path, library: Library, path: Path, split: SplitName = "test"
) -> list[Path]:
    """Write a run's detections as COCO results to ``path``; return the written files.

    The ids of images and categories are those of the annotation file. VOC has no such file, so the
    split's ground truth is written beside ``path`` with the ids, as ``NAME-truth.json``.
    """
    folder = results_folder(directory, split)
    truth = truth_of(directory, library, split).coco
    write_json(path, coco_results(read_detections(folder / DETECTIONS, truth), truth), indent=None)
    if all("img_id" not in image for image in truth["images"]):
        return [path]
    truth_path = path.with_name(f"{path.stem}-truth.json")
    write_json(truth_path, truth)
    return [path, truth_path]


def truth_of(directory: Path, library: Library, split: SplitName = "test") -> GroundTruth:
    """Return a split of a detector's run; UserError if its entry changed since."""
    _, dataset = inputs.entry_of(read_config(directory), directory, split, library)
    return read_split(dataset, split)


def metrics_of(detections: Results, truth: dict[str, Any]) -> Metrics:
    """Return the metrics of detections over all classes of the ground truth."""
    return evaluate(truth, detections, [category["name"] for category in truth["categories"]])
