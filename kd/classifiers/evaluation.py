"""Predictions of a classifier on the test split, and its accuracy."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from kd.data.progress import progress
from kd.errors import UserError
from kd.files import replacing, write_json

PREDICTIONS = "predictions.json.gz"


def predict(config: dict[str, Any], directory: Path, workers: int = 0) -> None:
    """Write ``predictions.json.gz``: (image id, label, predicted label, its probability) a crop."""
    import torch
    from mmengine.device import get_device
    from mmengine.registry import DefaultScope
    from torch.utils.data import DataLoader

    from kd.data.loading import build
    from kd.settings.compose import WEIGHTS
    from kd.weights import load_detector

    DefaultScope.get_instance("predict", scope_name="mmdet")
    classifier = load_detector(config["model"], directory / WEIGHTS).to(get_device())
    dataset = build(config["test_dataloader"]["dataset"])
    batches = DataLoader(dataset, config["test_dataloader"]["batch_size"], num_workers=workers)
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
    # No time stamp in the file: equal predictions are equal bytes.
    content = gzip.compress(json.dumps(records).encode(), mtime=0)
    with replacing(directory / PREDICTIONS) as temporary:
        temporary.write_bytes(content)


def measure(config: dict[str, Any], directory: Path) -> None:
    """Write ``metrics.json`` from ``predictions.json.gz``; needs no torch."""
    classes = config["test_dataloader"]["dataset"]["classes"]
    write_json(directory / "metrics.json", accuracy(_read(directory / PREDICTIONS), classes))


def accuracy(records: list[dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    """Return top-1, the mean over classes that have crops, and both for each class; all in [0, 1].

    A class without crops has the accuracy None.
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


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return json.loads(gzip.decompress(path.read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `kd predict` writes it") from None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); predict again") from None
