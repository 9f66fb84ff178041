"""Handmade models and batches for the tests of DeFeat."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from kd.methods.features.defeat import DeFeat
from tests.methods import scenes
from tests.methods.scenes import make_batch

IDENTITY = nn.ModuleDict()
"""No adaptation: maps are compared without layers."""
OFF = {"object_weight": 0, "background_weight": 0}
HEAD = OFF | {"positive_weight": 2, "negative_weight": 2}
BACKBONE = OFF | {"backbone_object_weight": 1, "backbone_background_weight": 1}
ONE_CELL = [[0.0, 0.0, 32.0, 32.0]]
"""One object on the first cell of a map of stride 32."""
TWO_OBJECTS = [[[0.0, 0.0, 20.0, 12.0]], [[30.0, 30.0, 60.0, 62.0]]]


def batch_of(boxes: list[list[list[float]]], side: int = 64) -> Any:
    """Return square blank images with the boxes of each image."""
    tensors = [torch.tensor(rows, dtype=torch.float).reshape(-1, 4) for rows in boxes]
    labels = [torch.zeros(len(rows), dtype=torch.long) for rows in boxes]
    return make_batch(torch.zeros(len(boxes), 3, side, side), tensors, labels)


def view(neck: list[Tensor], strides: list[int], **attributes: Any) -> SimpleNamespace:
    return SimpleNamespace(neck=neck, strides=strides, **attributes)


def random_models(sizes: tuple[int, ...] = (8, 4), images: int = 2) -> tuple[Any, Any]:
    """Return student and teacher: levels of strides 8 and 16 on 64 pixels, 3 channels."""
    torch.manual_seed(0)
    necks = [[torch.randn(images, 3, size, size) for size in sizes] for _ in range(2)]
    for level in (level for neck in necks for level in neck):
        level.requires_grad_()
    return tuple(view(neck, [8, 16]) for neck in necks)  # type: ignore[return-value]


def golden() -> tuple[Any, Any]:
    """Return two channels of 2 x 2 cells that differ by 1, and by (1, 2) on the object's cell."""
    difference = torch.ones(1, 2, 2, 2)
    difference[0, 1, 0, 0] = 2
    return view([difference], [32]), view([torch.zeros(1, 2, 2, 2)], [32])


def losses(models: Any, batch: Any, adapters: nn.ModuleDict = IDENTITY, **settings: Any) -> Any:
    return DeFeat(**settings).losses(*models, batch, adapters)


def total(models: Any, batch: Any, **settings: Any) -> Tensor:
    return scenes.total(losses(models, batch, **settings))
