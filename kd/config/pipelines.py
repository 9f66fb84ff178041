"""Pipelines of mmdet transforms that load and augment the images of a detector."""

from typing import Any

from kd.config.parts import Augmentation

Pipeline = list[dict[str, Any]]

_CROP_IOUS = {"ssd": (0.1, 0.3, 0.5, 0.7, 0.9), "yolo": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)}
_LARGEST_CANVAS = {"ssd": 4, "yolo": 2}


def training(family: Augmentation, size: tuple[int, int], mean: list[float]) -> Pipeline:
    """Return the pipeline of training images; ``size``: width and height in pixels.

    ``mean``: RGB, 0 to 255, with which SSD and YOLO surround a shrunk image. Their augmentations
    are those of mmdet 3.3.0.
    """
    loading: Pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True},
    ]
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
    return [
        {"type": "LoadImageFromFile"},
        _resize(family, size),
        {"type": "PackDetInputs", "meta_keys": meta_keys},
    ]


def _resize(family: Augmentation, size: tuple[int, int]) -> dict[str, Any]:
    if family == "ssd":
        return {"type": "Resize", "scale": list(size), "keep_ratio": False}
    return {"type": "FitInto", "width": size[0], "height": size[1]}
