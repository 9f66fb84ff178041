"""Augmentations of RTMDet and YOLOX, which mix several images.

They are those of mmdet 3.3.0 for images of 640 pixels, in proportion to the side of the images.
mmdet draws the images that RTMDet mixes from a cache of the loading process. Here every sample
draws them from the data set, so that it depends on (seed, epoch, sample) only.
"""

from typing import Any, NamedTuple

from kd.config.parts import Augmentation, Schedule

Pipeline = list[dict[str, Any]]

GRAY = 114
"""Value of padded pixels in each channel, 0 to 255."""


class Mixing(NamedTuple):
    """Numbers of one family of augmentations."""

    scales: tuple[float, float]
    """Range of the ratio that a mosaic is scaled by."""
    mix_up: float
    """Share of samples that MixUp mixes with another image."""
    batch_sides: tuple[float, float] | None = None
    """Range of the side of a batch, relative to the training images; every ten steps another
    one is drawn."""
    growth: float = 1.0
    """Side of training images over that of test images."""
    empty_images: bool = False
    """True if images without boxes are trained on."""


MIXING: dict[Augmentation, Mixing] = {
    "rtmdet": Mixing((0.1, 2.0), 1.0),
    "rtmdet-s": Mixing((0.5, 2.0), 1.0),
    "rtmdet-tiny": Mixing((0.5, 2.0), 0.5),
    "yolox": Mixing((0.1, 2.0), 1.0, (0.75, 1.25), empty_images=True),
    "yolox-tiny": Mixing((0.5, 1.5), 0.0, (0.5, 1.0), growth=640 / 416, empty_images=True),
}
"""Numbers of the families that mix images."""


def mixed(
    dataset: dict[str, Any], family: Augmentation, side: int, schedule: Schedule, seed: int
) -> dict[str, Any]:
    """Return the data set that mixes images of ``dataset``; ``side``: of test images, in pixels."""
    numbers, is_rtmdet = MIXING[family], family.startswith("rtmdet")
    first, last = (_rtmdet if is_rtmdet else _yolox)(numbers, _training_side(numbers, side))
    stages: dict[str, Any] = {"pipeline": first}
    if schedule.unmixed_epochs:
        stages |= {"last_pipeline": last, "last_from": schedule.epochs - schedule.unmixed_epochs}
    return {"type": "MixedImages", "seed": seed, **stages, "dataset": dataset}


def hooks(family: Augmentation, head: str, side: int, schedule: Schedule) -> list[dict[str, Any]]:
    """Return the hooks of a family's training.

    ``head``: type of the detector's head. ``side``: of test images, in pixels.
    """
    hooks: list[dict[str, Any]] = []
    numbers = MIXING.get(family)
    if numbers and numbers.batch_sides:
        whole = _training_side(numbers, side)
        smallest, largest = (round(whole * share) for share in numbers.batch_sides)
        hooks.append({"type": "ResizeBatches", "smallest": smallest, "largest": largest})
    if schedule.unmixed_epochs and "YOLOXHead" in head:
        first = schedule.epochs - schedule.unmixed_epochs
        hooks.append({"type": "BoxL1Loss", "from_epoch": first})
    return hooks


def _training_side(numbers: Mixing, side: int) -> int:
    """Return the side of training images in pixels, a multiple of 32 if it is another one."""
    return side if numbers.growth == 1 else 32 * round(side * numbers.growth / 32)


def padded(size: tuple[int, int]) -> dict[str, Any]:
    """Return the step that pads an image on the right and below; ``size``: width, height."""
    return {"type": "PadInto", "width": size[0], "height": size[1], "value": GRAY}


def _rtmdet(numbers: Mixing, side: int) -> tuple[Pipeline, Pipeline]:
    """Return the transforms of RTMDet before and after the switch of stages."""

    def cropped(largest: int) -> Pipeline:
        return [
            {
                "type": "RandomResize",
                "scale": [largest, largest],
                "ratio_range": list(numbers.scales),
                "resize_type": "mmdet.Resize",
                "keep_ratio": True,
            },
            {"type": "RandomCrop", "crop_size": [side, side]},
            {"type": "YOLOXHSVRandomAug"},
            {"type": "RandomFlip", "prob": 0.5},
            padded((side, side)),
        ]

    mix_up = {
        "type": "MixUpOfMosaics",
        "img_scale": [side, side],
        "ratio_range": [1.0, 1.0],
        "pad_val": GRAY,
        "prob": numbers.mix_up,
    }
    packing = {"type": "PackDetInputs"}
    return [_mosaic(side), *cropped(2 * side), mix_up, packing], [*cropped(side), packing]


def _yolox(numbers: Mixing, side: int) -> tuple[Pipeline, Pipeline]:
    """Return the transforms of YOLOX before and after the switch of stages."""
    affine = {
        "type": "RandomAffine",
        "scaling_ratio_range": list(numbers.scales),
        "border": [-side // 2, -side // 2],
    }
    mix_up = {
        "type": "MixUp",
        "img_scale": [side, side],
        "ratio_range": [0.8, 1.6],
        "pad_val": GRAY,
    }
    common: Pipeline = [
        {"type": "YOLOXHSVRandomAug"},
        {"type": "RandomFlip", "prob": 0.5},
        {"type": "FitInto", "width": side, "height": side},
        padded((side, side)),
        {"type": "FilterAnnotations", "min_gt_bbox_wh": [1, 1], "keep_empty": False},
        {"type": "PackDetInputs"},
    ]
    return [_mosaic(side), affine, *([mix_up] if numbers.mix_up else []), *common], common


def _mosaic(side: int) -> dict[str, Any]:
    return {"type": "Mosaic", "img_scale": [side, side], "pad_val": GRAY}
