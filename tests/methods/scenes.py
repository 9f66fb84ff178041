"""Made-up batches, observations and second stages for the tests of methods."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from kd.observers import Batch, Candidates, Progress

STRIDES = [8, 16]
SIZES = [(8, 12), (4, 6)]
"""Rows and columns of the levels, of images of 64 x 96 pixels."""


def batch_of(
    *boxes: list[list[float]], labels: list[list[int]] | None = None, epoch: int = 0
) -> Batch:
    """Images of 64 x 96 pixels with the given boxes, far behind any warm-up."""
    classes = labels or [[0] * len(image) for image in boxes]
    samples = [
        SimpleNamespace(
            gt_instances=SimpleNamespace(
                bboxes=torch.tensor(image, dtype=torch.float).reshape(-1, 4),
                labels=torch.tensor(named, dtype=torch.long),
            )
        )
        for image, named in zip(boxes, classes, strict=True)
    ]
    progress = Progress(step=10_000, epoch=epoch, epochs=4)
    return Batch(torch.zeros(len(boxes), 3, 64, 96), samples, progress)


def maps(
    seed: int, channels: int = 5, images: int = 2, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(images, channels, *size) for size in SIZES]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def view(neck: list[Tensor], gradients: bool = False, **more: Any) -> SimpleNamespace:
    """What a method reads of maps with the above strides."""
    for level in neck:
        level.requires_grad_(gradients)
    return SimpleNamespace(neck=neck, strides=STRIDES, **more)


def total(losses: dict[str, Any]) -> Tensor:
    values = [each for value in losses.values() for each in listed(value)]
    return torch.stack(values).sum()


def listed(value: Tensor | list[Tensor]) -> list[Tensor]:
    return value if isinstance(value, list) else [value]


class SecondStage:
    """Regions with class logits, encoded and decoded boxes, drawn for each row of the RoIs."""

    candidate_softmax = True

    def __init__(self, logits: Tensor, codes: Tensor, boxes: Tensor, candidates: Candidates):
        self.logits, self.codes, self.boxes = logits, codes, boxes
        self.candidates = candidates
        self.targets = torch.zeros_like(codes)
        self.candidate_logits = self._rows(logits)
        self.candidate_codes = self._rows(codes)
        self.candidate_boxes = self._rows(boxes)
        self.candidate_targets = self._rows(self.targets)

    @staticmethod
    def _rows(values: Tensor) -> Callable[[Candidates], Tensor]:
        return lambda candidates: values[candidates.index]
