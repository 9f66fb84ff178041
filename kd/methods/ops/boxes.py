"""Overlaps of boxes (x1, y1, x2, y2) in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


def aligned_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU (P,) of boxes with others, both (P, 4), row by row; 0 if both are empty."""
    top_left = torch.maximum(boxes[:, :2], others[:, :2])
    bottom_right = torch.minimum(boxes[:, 2:], others[:, 2:])
    overlap = _area(bottom_right - top_left)
    union = _area(boxes[:, 2:] - boxes[:, :2]) + _area(others[:, 2:] - others[:, :2]) - overlap
    # Two empty boxes have no union; the clamp makes their IoU 0 instead of NaN.
    return overlap / union.clamp(min=1e-6)


def shares_inside(boxes: Tensor, others: Tensor) -> Tensor:
    """Return (P, G): the share, 0 to 1, of each box's area (P, 4) inside each of others (G, 4)."""
    top_left = torch.maximum(boxes[:, None, :2], others[:, :2])
    bottom_right = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(2)
    return overlap / _area(boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)[:, None]


def _area(sides: Tensor) -> Tensor:
    width, height = sides.clamp(min=0).unbind(1)
    return width * height
