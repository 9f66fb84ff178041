"""Predictions of a classifier on the test split, and its accuracy."""

from pathlib import Path
from typing import Any

from kd.common.files import read_predictions, write_predictions
from kd.common.progress import progress
from kd.config.composed import ComposedConfig

PREDICTIONS = "predictions.json.gz"


def predict(config: dict[str, Any], directory: Path, workers: int = 0) -> Path:
    """Write ``predictions.json.gz`` and return its path.

    It has a record for each crop: image id, label, predicted label and its probability.
    """
    import torch
    from mmengine.device import get_device
    from mmengine.registry import init_default_scope
    from torch.utils.data import DataLoader

    from kd.config.compose import WEIGHTS
    from kd.data.sampling import build_dataset
    from kd.models.weights import load_frozen

    composed = ComposedConfig(config)
    init_default_scope("mmdet")
    classifier = load_frozen(composed.model, directory / WEIGHTS).to(get_device())
    loader = composed.loader("test")
    dataset = build_dataset(loader["dataset"])
    batches = DataLoader(dataset, loader["batch_size"], num_workers=workers)
    rows: list[tuple[int, float]] = []
    for batch in progress(batches, len(batches), f"predicting {directory}, batches"):
        with torch.inference_mode():
            best = classifier.test_step(batch).softmax(1).max(1)
        rows += zip(best.indices.tolist(), best.values.tolist(), strict=True)
    images = dataset.pack.images.tolist()
    records = [
        {"image": image, "label": label, "predicted": predicted, "score": score}
        for image, label, (predicted, score) in zip(images, dataset.labels, rows, strict=True)
    ]
    path = directory / PREDICTIONS
    write_predictions(path, records)
    return path


def metrics(config: dict[str, Any], predictions: Path) -> dict[str, Any]:
    """Return the accuracy of the predictions in a file, without torch."""
    return accuracy(read_predictions(predictions), ComposedConfig(config).class_names)


def accuracy(records: list[dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    """Return top-1 accuracy, its mean over classes that have crops, and accuracy by class.

    Accuracies are in [0, 1]; a class without crops has None.
    """
    per_class: dict[str, dict[str, Any]] = {}
    for label, name in enumerate(classes):
        hits = [record["predicted"] == label for record in records if record["label"] == label]
        share = sum(hits) / len(hits) if hits else None
        per_class[name] = {"crops": len(hits), "correct": sum(hits), "accuracy": share}
    correct = sum(one["correct"] for one in per_class.values())
    shares = [one["accuracy"] for one in per_class.values() if one["crops"]]
    return {
        "top1": correct / len(records),
        "mean_per_class": sum(shares) / len(shares),
        "crops": len(records),
        "correct": correct,
        "per_class": per_class,
    }
