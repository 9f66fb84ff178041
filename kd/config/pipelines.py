"""Pipelines of mmdet transforms that load and augment the images of a detector."""

from typing import Any

from kd.config.composed import ComposedConfig
from kd.config.parts import Augmentation
from kd.config.recipes import mixing
from kd.config.recipes.mixing import Pipeline

PREPROCESSOR: dict[str, Any] = {
    "type": "DetDataPreprocessor",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
    "pad_size_divisor": 32,
}
"""Normalization and padding of images where a detector sets no other: ImageNet's mean and standard
deviation, RGB, 0 to 255."""

_CROP_IOUS = {"ssd": (0.1, 0.3, 0.5, 0.7, 0.9), "yolo": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)}
_LARGEST_CANVAS = {"ssd": 4, "yolo": 2}
_DETERMINISTIC = frozenset(
    {
        "LoadImageFromFile",
        "LoadAnnotations",
        "FilterAnnotations",
        "FitInto",
        "PackDetInputs",
        "PadInto",
        "Resize",
    }
)
"""Transforms whose output for an image is the same each time."""


def training(family: Augmentation, size: tuple[int, int], mean: list[float]) -> Pipeline:
    """Return the pipeline of training images; ``size``: width and height in pixels.

    ``mean``: RGB, 0 to 255, with which SSD and YOLO surround a shrunk image. Their augmentations
    are those of mmdet 3.3.0. The pipeline of RTMDet and YOLOX only reads image and boxes;
    ``kd.config.recipes.mixing`` has the rest.
    """
    loading: Pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True},
    ]
    if family in mixing.MIXING:
        return loading
    resizing: Pipeline = [_resize(family, size), {"type": "RandomFlip", "prob": 0.5}]
    packing: Pipeline = [{"type": "PackDetInputs"}]
    if family == "general":
        return [*loading, *resizing, *packing]
    cropping = [
        {
            "type": "Expand",
            "mean": mean,
            "to_rgb": True,
            "ratio_range": [1, _LARGEST_CANVAS[family]],
        },
        {"type": "MinIoURandomCrop", "min_ious": list(_CROP_IOUS[family]), "min_crop_size": 0.3},
    ]
    coloring = {
        "type": "PhotoMetricDistortion",
        "brightness_delta": 32,
        "contrast_range": [0.5, 1.5],
        "saturation_range": [0.5, 1.5],
        "hue_delta": 18,
    }
    return [*loading, *cropping, *resizing, coloring, *packing]


def testing(family: Augmentation, size: tuple[int, int]) -> Pipeline:
    """Return the pipeline of test images; ``size``: width and height in pixels."""
    meta_keys = ["img_id", "img_path", "ori_shape", "img_shape", "scale_factor"]
    padding = [mixing.padded(size)] if family in mixing.MIXING else []
    return [
        {"type": "LoadImageFromFile"},
        _resize(family, size),
        *padding,
        {"type": "PackDetInputs", "meta_keys": meta_keys},
    ]


def _resize(family: Augmentation, size: tuple[int, int]) -> dict[str, Any]:
    if family == "ssd":
        return {"type": "Resize", "scale": list(size), "keep_ratio": False}
    return {"type": "FitInto", "width": size[0], "height": size[1]}


def random_transforms(config: ComposedConfig) -> list[str]:
    """Return the transforms of training images whose output differs from epoch to epoch.

    A horizontal flip that follows all other transforms is not among them: its two outputs are
    cached apart.
    """
    pipelines = config.pipelines("train")
    steps = [step for pipeline in pipelines for step in pipeline[:-2]]
    steps += [step for pipeline in pipelines for step in pipeline[-2:] if not _is_last_flip(step)]
    types = [step["type"] for step in steps if step["type"] not in _DETERMINISTIC]
    return list(dict.fromkeys(types))


def forms(config: ComposedConfig) -> int:
    """Return the number of forms of a training image: 2 if it is flipped at random, otherwise 1."""
    pipelines = config.pipelines("train")
    flips = any(step["type"] == "RandomFlip" for steps in pipelines for step in steps)
    return 2 if flips else 1


def is_repeated(config: ComposedConfig) -> bool:
    """Return True if a run has a detector as a teacher that sees the same images in every epoch."""
    return config.teacher is not None and not random_transforms(config)


def _is_last_flip(step: dict[str, Any]) -> bool:
    return step["type"] == "RandomFlip" and step.keys() <= {"type", "prob"}
