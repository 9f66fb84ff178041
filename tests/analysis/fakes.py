"""Fake run directories with the files that analyses read."""

import json
from pathlib import Path
from typing import Any

from analysis.runs.groups import RunGroup, read
from kd.common.files import write_json
from kd.config.library import Library
from kd.evaluation.metrics import COCO_METRICS
from kd.evaluation.stored import StoredDetections

Settings = dict[str, dict[str, Any]]


def write_run(
    folder: Path,
    methods: Settings | None = None,
    seed: int = 0,
    teacher: str | None = None,
    **parts: Any,
) -> Path:
    """Write ``run.json`` and ``config.json``; ``methods``: settings by term."""
    method = "+".join(methods or {}) or None
    identity = {
        "scale": "smoke", "dataset": "shapes-smoke", "schedule": "smoke", "detector": "retinanet",
        "student": "r18", "seed": seed, "method": method, "teacher": teacher, "classifier": None,
    } | parts  # fmt: skip
    model = {"type": "Distiller", "methods": methods} if methods else {"type": "RetinaNet"}
    write_json(folder / "run.json", identity)
    write_json(folder / "config.json", {"model": model, "seed": seed})
    return folder


def write_metrics(folder: Path, ap: float | None, **figures: float | None) -> None:
    """Write ``metrics.json`` with every metric ``ap``, a fraction of 1, except ``figures``."""
    counts = {"per_class": {}, "images": 1, "boxes": 1, "detections": 1}
    values = dict.fromkeys((*COCO_METRICS, "VOC07", "VOC12"), ap) | figures | counts
    write_json(folder / "metrics.json", values)


def write_lines(path: Path, records: list[dict[str, Any]], end: str = "") -> None:
    """Write JSON lines, and ``end`` after them."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + end)


def write_detections(folder: Path, records: list[tuple[Any, int, list[float], float]]) -> None:
    """Write detections: image, label, xywh box in pixels, score."""
    keys = ("image", "label", "bbox", "score")
    detections = [dict(zip(keys, record, strict=True)) for record in records]
    StoredDetections.parse(detections).write(folder / "detections.json.gz")


def groups(*folders: Path) -> list[RunGroup]:
    """Return the run groups of run directories."""
    return read(folders, Library())
