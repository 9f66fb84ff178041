"""Transforms of images by name, with mmdet's classes in place of ours."""

from collections import Counter
from typing import Any

Settings = dict[str, Any]
Pipeline = list[Settings]
SAME = {"CachedMosaic": "Mosaic", "CachedMixUp": "MixUp", "MixUpOfMosaics": "MixUp"}
"""Names under which transforms of different classes and one purpose are compared."""


def stages(training: Pipeline | None, ending: Pipeline | None, testing: Pipeline) -> Settings:
    """Return the transforms of the stages of a training and of test images."""
    # mmdet reads the boxes of test images with the images; here the evaluation reads them.
    testing = [one for one in testing if one["type"] != "LoadAnnotations"]
    pipelines = {"training": training, "ending": ending, "testing": testing}
    return {stage: _by_name(steps) for stage, steps in pipelines.items() if steps is not None}


def _by_name(pipeline: Pipeline) -> Settings:
    """Return transforms by name, and their order."""
    counts: Counter[str] = Counter()
    steps_by_name: Settings = {}
    square: list[int] | None = None
    for step in pipeline:
        transform = _canonical(step, square)
        if transform["type"] == "Resize":
            square = transform["scale"]
        name: str = SAME.get(transform["type"]) or transform["type"]
        counts[name] += 1
        steps_by_name[name if counts[name] == 1 else f"{name}{counts[name]}"] = transform
    return {**steps_by_name, "order": list(steps_by_name)}


def _canonical(step: Settings, square: list[int] | None) -> Settings:
    """Return a transform of mmdet that computes the same image.

    ``square``: width and height that an earlier step resized the image to.
    """
    kind = step["type"].removeprefix("mmdet.")
    if kind == "FitInto":
        return {"type": "Resize", "scale": [step["width"], step["height"]], "keep_ratio": True}
    if kind == "PadInto":
        size = [step["width"], step["height"]]
        return {"type": "Pad", "size": size, "pad_val": {"img": step["value"]}}
    canonical = {**step, "type": kind}
    if "resize_type" in canonical:
        canonical["resize_type"] = canonical["resize_type"].removeprefix("mmdet.")
    if "pad_val" in canonical:
        canonical["pad_val"] = _gray(canonical["pad_val"])
    if canonical.pop("pad_to_square", False):
        canonical["size"] = square
    return canonical


def _gray(value: Any) -> Any:
    """Return the value of padded pixels as one number if all channels have it."""
    if isinstance(value, dict):
        return {key: _gray(item) for key, item in value.items()}
    return value[0] if isinstance(value, list) and len(set(value)) == 1 else value
