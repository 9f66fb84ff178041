"""Detections of a trained run on the test or the validation split."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader, Subset

import kd.models.mmdet_setup  # noqa: F401
from kd.classifiers import evaluation as classifiers
from kd.common.files import sha256
from kd.common.results import require_result, results_folder
from kd.config.compose import WEIGHTS
from kd.config.composed import ComposedConfig, read_config
from kd.config.library import Library
from kd.data.entry import SplitName
from kd.data.sampling import build_dataset
from kd.evaluation.evaluate import DETECTIONS
from kd.evaluation.stored import StoredDetections
from kd.models import weights
from kd.models.registration import register
from kd.records import inputs
from kd.records.model_size import write_size

logger = logging.getLogger(__name__)
PRINT_EVERY = 10.0


def predict(directory: Path, workers: int = 0, split: SplitName = "test") -> None:
    """Write ``detections.json.gz``, in the form of ``kd.evaluation.stored``.

    ``model.json`` holds the detector's size. A classifier writes
    ``predictions.json.gz`` (kd/classifiers/evaluation.py) alone.
    UserError if the weights were computed from other inputs than the run has now, and for a split
    that the run does not have.
    """
    config = read_config(directory)
    register(config)
    depends = _inputs(config, directory, split)
    if ComposedConfig(config).kind == "classifier":
        predictions = classifiers.predict(config, directory, workers)
    else:
        predictions = _detect(config, directory, workers, split)
    depends["detections"] = sha256(predictions)
    inputs.record(results_folder(directory, split), "prediction", depends)


def is_current(directory: Path, split: SplitName = "test") -> bool:
    """Return True if a detector's detections come from the weights and data of now."""
    folder = results_folder(directory, split)
    path = folder / DETECTIONS
    if not path.exists():
        return False
    depends = _inputs(read_config(directory), directory, split)
    return inputs.recorded(folder, "prediction") == {**depends, "detections": sha256(path)}


def _inputs(config: dict[str, Any], directory: Path, split: SplitName) -> inputs.Inputs:
    require_result(directory / WEIGHTS)
    trained = weights.read(directory / WEIGHTS).get("inputs", {})
    return inputs.of_prediction(config, trained, directory, Library(), split)


def _detect(config: dict[str, Any], directory: Path, workers: int, split: SplitName) -> Path:
    """Write the detections of a detector on a split, and its size; return the former."""
    init_default_scope("mmdet")
    model = ComposedConfig(config).student
    detector = weights.load_frozen(model, directory / WEIGHTS).to(get_device())
    batches = split_batches(config, workers, split)
    parts: list[StoredDetections] = []
    started = printed = time.monotonic()
    for step, batch in enumerate(batches, start=1):
        parts += detections(detector, batch)
        if time.monotonic() - printed > PRINT_EVERY:
            printed = time.monotonic()
            left = (len(batches) - step) * (printed - started) / step
            logger.info("predicting: image %d/%d, %.0f s left", step, len(batches), left)
    path = results_folder(directory, split) / DETECTIONS
    StoredDetections.concatenate(parts).write(path)
    write_size(directory)
    return path


def split_batches(
    config: dict[str, Any], workers: int, split: SplitName, part: int = 0, parts: int = 1
) -> DataLoader[Any]:
    """Return batches of a split, or of one of several parts with every parts-th image."""
    loader = ComposedConfig(config).loader(split)
    dataset = build_dataset(loader["dataset"])
    return DataLoader(
        Subset(dataset, range(part, len(dataset), parts)),
        batch_size=loader["batch_size"],
        num_workers=workers,
        collate_fn=pseudo_collate,
    )


def detections(detector: Any, batch: Any) -> list[StoredDetections]:
    """Return the detections in each image of a batch, from a detector in eval mode."""
    with torch.no_grad():
        samples = detector.test_step(batch)
    return [_detections_of(sample) for sample in samples]


def _detections_of(sample: Any) -> StoredDetections:
    instances = sample.pred_instances
    columns = (instances.bboxes, instances.labels, instances.scores)
    return StoredDetections.of_image(sample.img_id, *(column.cpu().numpy() for column in columns))
