"""Handmade outputs of a head with distributions of box sides, for the tests of LD and BCKD."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kd.observers import Batch
from tests.methods.published.published_sides import Sides
from tests.methods.scenes import SIZES, STRIDES, batch_of

BINS, CLASSES = 3, 2


class Scene(NamedTuple):
    """Student and teacher with random outputs, the student's maps and the batch."""

    student: Sides
    teacher: Sides
    batch: Batch
    maps: dict[str, Tensor]


def anchors() -> list[Tensor]:
    """Return square anchors of 8 strides, by level (N_l, 4), xyxy in pixels, at each cell."""
    levels = []
    for stride, (rows, columns) in zip(STRIDES, SIZES, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        center = stride * torch.stack([x, y], -1).reshape(-1, 2).double()
        levels.append(torch.cat([center - 4 * stride, center + 4 * stride], 1))
    return levels


def scene(
    *boxes: list[list[float]], positives: dict[tuple[int, int], int] | None = None, seed: int = 0
) -> Scene:
    """Return random outputs for a batch of images of 64 x 96 px with boxes, xyxy in pixels.

    ``positives``: the object, by its index in the image, of each positive prior (image, prior).
    """
    generator = torch.Generator().manual_seed(seed)
    levels, images = anchors(), len(boxes)
    priors = torch.cat(levels)
    shapes = {"sides": (images, 4 * BINS, len(priors)), "classes": (images, CLASSES, len(priors))}
    inputs: dict[str, Any] = {
        f"{side}_{name}": torch.randn(shape, generator=generator, dtype=torch.float64)
        for side in ("student", "teacher")
        for name, shape in shapes.items()
    }
    maps = {name: inputs[f"student_{name}"].requires_grad_() for name in shapes}
    assignment = torch.full((images, len(priors)), -1)
    for at, instance in (positives or {}).items():
        assignment[at] = instance
    inputs |= {
        "counts": torch.tensor([len(level) for level in levels]),
        "sizes": torch.tensor(SIZES),
        "priors": priors,
        "assignment": assignment,
        "valid": torch.ones(images, len(priors), dtype=torch.bool),
    }
    batch = batch_of(*boxes)
    return Scene(Sides(inputs, "student"), Sides(inputs, "teacher"), batch, maps)
