"""PKD and CWD on the inputs of golden data.

``student0``, ``teacher0`` and so on are the maps (B, C, H, W) of the levels.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from kd.training.image_groups import grouped_losses
from tests.methods.published.golden_data import Port
from tests.methods.published.preset_losses import levels, preset_method, summed
from tests.methods.scenes import make_batch

Inputs = dict[str, Tensor]
COARSE, FINE = (8, 16, 32, 64, 128), (4, 8, 16, 32, 64)


def view(maps: list[Tensor], strides: tuple[int, ...]) -> SimpleNamespace:
    """Return an observation whose neck maps and class maps are ``maps``."""

    def subset(images: slice) -> SimpleNamespace:
        return view([level[images] for level in maps], strides)

    return SimpleNamespace(neck=maps, class_maps=maps, strides=strides[: len(maps)], subset=subset)


def channels(preset: str, inputs: Inputs, detector: str = "retinanet", **settings: Any) -> Inputs:
    """Return the terms of a method that compares channels of maps."""
    student, teacher = (levels(inputs, side) for side in ("student", "teacher"))
    is_finer = bool(inputs.get("finer", torch.tensor(0)))
    views = view(student, COARSE), view(teacher, FINE if is_finer else COARSE)
    images = len(student[0])
    objects = [torch.zeros(0, 4)] * images
    batch = make_batch(torch.zeros(images, 3, 1, 1), objects, [torch.zeros(0).long()] * images)
    return summed(grouped_losses(preset_method(preset, detector, **settings), *views, batch, {}))


def pkd(inputs: Inputs) -> Inputs:
    """Return the term with the weight of the kind of detector."""
    return channels("pkd", inputs, "faster_rcnn" if inputs["two_stage"] else "retinanet")


def cwd(preset: str, inputs: Inputs) -> Inputs:
    """Return the term at the temperature of a case."""
    return channels(preset, inputs, temperature=inputs["temperature"].item())


PORTS: dict[str, Port] = {
    "pkd": pkd,
    "pkd_mmrazor": partial(channels, "pkd_mmrazor"),
    "cwd": partial(cwd, "cwd"),
    "cwd_class": partial(cwd, "cwd_class"),
    "cwd_normalized": partial(channels, "cwd_normalized"),
}
