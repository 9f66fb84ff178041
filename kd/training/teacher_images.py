"""Images of a student's batch in the normalization of its teacher."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kd.config.pipelines import PREPROCESSOR
from kd.observers import Batch

KEYS = ("mean", "std", "bgr_to_rgb")
"""Settings of a detector's ``data_preprocessor`` that change the pixels of an image."""


def conversion(student: dict[str, Any], teacher: dict[str, Any]) -> Callable[[Batch], Batch]:
    """Return a function from a student's batch to the batch that its teacher reads.

    ``student`` and ``teacher``: their composed models. The same images are normalized by the
    teacher's mean and deviation, in its order of channels (RTMDet and YOLOX read BGR, most
    detectors RGB), and zeros surround them. If both detectors prepare images alike, the function
    returns its argument.
    """
    ours, theirs = (
        PREPROCESSOR | model.get("data_preprocessor", {}) for model in (student, teacher)
    )
    if all(ours[key] == theirs[key] for key in KEYS):
        return lambda batch: batch
    flips = ours["bgr_to_rgb"] != theirs["bgr_to_rgb"]

    def statistic(settings: dict[str, Any], key: str, like: Tensor) -> Tensor:
        return torch.tensor(settings[key], device=like.device, dtype=like.dtype)[:, None, None]

    def converted(batch: Batch) -> Batch:
        images = batch.inputs
        pixels = images * statistic(ours, "std", images) + statistic(ours, "mean", images)
        if flips:
            pixels = pixels.flip(1)
        inputs = (pixels - statistic(theirs, "mean", images)) / statistic(theirs, "std", images)
        for image, sample in zip(inputs, batch.samples, strict=True):
            height, width = sample.img_shape[:2]
            image[:, height:], image[:, :, width:] = 0, 0
        mean, std = (statistic(theirs, key, images).flatten() for key in ("mean", "std"))
        return replace(batch, inputs=inputs, mean=mean, std=std, is_bgr=not theirs["bgr_to_rgb"])

    return converted
