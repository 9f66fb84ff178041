"""Nested data sets of a composed configuration.

mmengine and mmdet wrap a data set in another one under the key ``dataset`` (repeating, seeding,
mixing images) and join several under ``datasets``.
"""

from collections.abc import Callable, Iterator
from typing import Any

Settings = dict[str, Any]

PIPELINES = ("pipeline", "last_pipeline")
"""Keys of a data set that hold transforms."""


def walk(dataset: Settings) -> Iterator[Settings]:
    """Yield a data set's settings and those of all data sets in it, outer ones first."""
    yield dataset
    for inner in _inner(dataset):
        yield from walk(inner)


def readers(dataset: Settings) -> list[Settings]:
    """Return the settings of the innermost data sets, which read files."""
    return [settings for settings in walk(dataset) if not _inner(settings)]


def pipelines(dataset: Settings) -> list[list[Settings]]:
    """Return the transforms of all data sets that have any, outer ones first."""
    blocks = [settings.get(key) for settings in walk(dataset) for key in PIPELINES]
    return [transforms for transforms in blocks if transforms]


def changed(dataset: Settings, change: Callable[[Settings], Settings]) -> Settings:
    """Return a copy of a data set's settings with ``change`` applied to each data set in it."""
    copy = dict(dataset)
    if copy.get("dataset"):
        copy["dataset"] = changed(copy["dataset"], change)
    if "datasets" in copy:
        copy["datasets"] = [changed(inner, change) for inner in copy["datasets"]]
    return change(copy)


def class_names(dataset: Settings) -> list[str]:
    """Return the classes that a data set's readers give labels to, in label order."""
    reader = readers(dataset)[0]
    return list(reader.get("metainfo", reader)["classes"])


def image_size(pipeline: list[Settings]) -> tuple[int, int] | None:
    """Return the largest width and height in pixels of an image; None without a resizing step."""
    for step in pipeline:
        if step["type"] in ("FitInto", "PadInto"):
            return step["width"], step["height"]
        if step["type"] == "Resize":
            width, height = step["scale"]
            return width, height
    return None


def _inner(dataset: Settings) -> list[Settings]:
    return [*filter(None, [dataset.get("dataset")]), *dataset.get("datasets", ())]
