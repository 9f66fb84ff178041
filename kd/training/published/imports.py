"""Import of published weights, in place of a training."""

from pathlib import Path
from typing import Any

from kd.common.fetch import fetch
from kd.common.files import sha256, write_json
from kd.config.compose import WEIGHTS
from kd.config.composed import ComposedConfig
from kd.config.library import Library
from kd.config.zoo.entries import PublishedDetectors
from kd.models import weights
from kd.models.registration import register
from kd.records import inputs, provenance


def import_weights(config: dict[str, Any], directory: Path) -> None:
    """Check published weights against the architecture and store them as the run's weights."""
    register(config)
    composed, library = ComposedConfig(config), Library()
    published = composed.published_checkpoint
    assert published is not None
    path = fetch(published["source"], published["sha256"])
    content = weights.read_published(path)
    weights.check_classes(content, path, composed.class_names)
    depends = inputs.of_training(config, directory, library)
    state = weights.state_in(content, path)
    detector = weights.frozen(composed.model, state, path, published.get("without", ()))
    inputs.record(directory, "training", depends)
    saved = {"state_dict": detector.state_dict(), "inputs": depends, **class_meta(config)}
    weights.save(directory / WEIGHTS, saved)
    record = {
        "run": directory.name,
        "finished": provenance.now(),
        "inputs": depends,
        "published_checkpoint": published | _facts(published.get("zoo"), library),
        "weights_sha256": sha256(directory / WEIGHTS),
        **provenance.environment(),
    }
    write_json(directory / "provenance.json", record)


def class_meta(config: dict[str, Any]) -> dict[str, Any]:
    """Return a detector's class names, and colors to draw them, for mmdet; {} for a classifier."""
    composed = ComposedConfig(config)
    if composed.kind == "classifier":
        return {}
    return {"meta": {"dataset_meta": {"classes": composed.class_names, "palette": "random"}}}


def _facts(name: str | None, library: Library) -> dict[str, Any]:
    """Return mmdet's configuration of a detector of its model zoo, and the AP that it reports."""
    if name is None:
        return {}
    line = PublishedDetectors(library).line(name)
    config = f"{line.folder}/{line.config.name}"
    return {"config": config, "reported_ap": line.ap}
