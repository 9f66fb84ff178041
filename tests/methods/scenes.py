"""Handmade batches, observations and second stages for the tests of methods."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from kd.observers import Batch, Candidates, Progress

STRIDES = [8, 16]
SIZES = [(8, 12), (4, 6)]
"""Rows and columns of the levels, of images of 64 x 96 pixels."""


def make_batch(
    images: Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    sizes: Sequence[Any] | None = None,
    progress: Progress | None = None,
) -> Batch:
    """Return a batch of images (B, 3, H, W) with their boxes (G, 4), labels (G,) and sizes (H, W).

    A size is that of the image without padding.
    """
    sizes = sizes or [tuple(images.shape[-2:])] * len(boxes)
    samples = [
        SimpleNamespace(
            gt_instances=SimpleNamespace(bboxes=image_boxes, labels=image_labels), img_shape=size
        )
        for image_boxes, image_labels, size in zip(boxes, labels, sizes, strict=True)
    ]
    return Batch(images, samples, progress or Progress())


def batch_of(
    *boxes: list[list[float]], labels: list[list[int]] | None = None, epoch: int = 0
) -> Batch:
    """Return a batch of blank 64 x 96 images with boxes, at a step after any warm-up."""
    labels = labels or [[0] * len(image_boxes) for image_boxes in boxes]
    return make_batch(
        torch.zeros(len(boxes), 3, 64, 96),
        [torch.tensor(image_boxes, dtype=torch.float).reshape(-1, 4) for image_boxes in boxes],
        [torch.tensor(image_labels, dtype=torch.long) for image_labels in labels],
        progress=Progress(step=10_000, epoch=epoch, epochs=4),
    )


def maps(
    seed: int, channels: int = 5, images: int = 2, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Return random maps (B, C, H, W) of both levels."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(images, channels, *size) for size in SIZES]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def view(neck: list[Tensor], gradients: bool = False, **attributes: Any) -> SimpleNamespace:
    """Return an observation of neck maps with the above strides."""
    for level in neck:
        level.requires_grad_(gradients)
    return SimpleNamespace(neck=neck, strides=STRIDES, **attributes)


def total(losses: dict[str, Any]) -> Tensor:
    """Return the sum of all terms and levels."""
    return torch.stack([level for term in losses.values() for level in levels_of(term)]).sum()


def levels_of(term: Tensor | list[Tensor]) -> list[Tensor]:
    """Return the scalars of a term by level, one if it has no levels."""
    return term if isinstance(term, list) else [term]


class SecondStage:
    """Second stage whose outputs are rows of given tensors: class logits, codes and boxes."""

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
