"""Which cells of a feature map belong to an object: the masks of imitation methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kd.lazy import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kd.observation import Batch
else:
    torch = LazyModule("torch")

FINEST = 56.0
"""Side of a square box, in pixels, at which levels begin to be told apart."""


def level_of(boxes: Tensor, levels: int, finest: float = FINEST) -> Tensor:
    """Return the pyramid level (P,) of boxes (P, 4), xyxy in pixels: 0 is the finest.

    Below a side of twice ``finest`` pixels it is 0; each doubling goes up one level. Sides are
    x2 - x1 + 1, as in DeFeat's code (ggjy/DeFeat.pytorch c46a793d), also in United-Perception.
    """
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    level = torch.log2((sides[:, 0] * sides[:, 1]).sqrt() / finest + 1e-6).floor()
    return level.clamp(0, levels - 1).long()


def cells_of(
    boxes: Tensor, stride: float, height: int, width: int
) -> list[tuple[int, int, int, int]]:
    """Return the cells (left, top, right, bottom), ends exclusive, that boxes (P, 4) cover.

    Coordinates are truncated to cells; a box that covers none gets the one at its corner. The
    rule is DeFeat's (ggjy/DeFeat.pytorch c46a793d), with cells beyond the border moved inside.
    """
    corners = (boxes / stride).long()
    limit = corners.new_tensor([width, height])
    first = corners[:, :2].clamp(min=0).minimum(limit - 1)
    last = corners[:, 2:].minimum(limit)
    empty = (last <= first).any(1, keepdim=True)
    last = torch.where(empty, first + 1, last)
    return [
        (left, top, right, bottom)
        for left, top, right, bottom in torch.cat([first, last], 1).tolist()
    ]


def ones(height: int, width: int) -> Tensor:
    """Return what the cells of a box get in a binary mask."""
    return torch.ones(height, width)


def object_masks(
    batch: Batch,
    strides: list[int],
    sizes: list[tuple[int, int]],
    fill: Callable[[int, int], Tensor] = ones,
) -> list[Tensor]:
    """Return, per level (B, H, W), the cells of the objects that belong to the level.

    ``sizes``: (H, W) of each level; ``fill``: from a box's height and width in cells to values
    (h, w). Where boxes overlap the larger value stays. ``level_of`` tells levels apart.
    """
    order = sorted(range(len(strides)), key=strides.__getitem__)
    masks = [batch.inputs.new_zeros(len(batch.samples), *size) for size in sizes]
    for image, boxes in enumerate(batch.gt_boxes):
        own = level_of(boxes, len(strides))
        for rank, level in enumerate(order):
            _draw(masks[level][image], boxes[own == rank], strides[level], fill)
    return masks


def object_mask(
    batch: Batch,
    stride: float,
    size: tuple[int, int],
    fill: Callable[[int, int], Tensor] = ones,
) -> Tensor:
    """Return (B, H, W): the cells of all objects, at one stride."""
    mask = batch.inputs.new_zeros(len(batch.samples), *size)
    for image, boxes in enumerate(batch.gt_boxes):
        _draw(mask[image], boxes, stride, fill)
    return mask


def _draw(
    mask: Tensor,
    boxes: Tensor,
    stride: float,
    fill: Callable[[int, int], Tensor],
) -> None:
    for left, top, right, bottom in cells_of(boxes, stride, *mask.shape):
        part = mask[top:bottom, left:right]
        part.copy_(torch.maximum(part, fill(bottom - top, right - left).to(mask)))
