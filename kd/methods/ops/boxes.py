"""Boxes (x1, y1, x2, y2) in pixels: overlaps, clipping, suppression, RoIs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")


def aligned_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU (P,) of boxes with others, both (P, 4), row by row; 0 if both are empty."""
    overlap, union = _overlap_and_union(boxes, others)
    # Two empty boxes have no union; the clamp makes their IoU 0 instead of NaN.
    return overlap / union.clamp(min=1e-6)


def aligned_giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalized IoU (P,), -1 to 1, of boxes with others, both (P, 4), row by row.

    It is the IoU less the share of the smallest enclosing box that neither box covers (Rezatofighi
    et al., CVPR 2019). Areas below 1e-6 count as 1e-6.
    """
    overlap, union = _overlap_and_union(boxes, others)
    top_left = torch.minimum(boxes[:, :2], others[:, :2])
    bottom_right = torch.maximum(boxes[:, 2:], others[:, 2:])
    enclosing = _area(bottom_right - top_left).clamp(min=1e-6)
    union = union.clamp(min=1e-6)
    return overlap / union - (enclosing - union) / enclosing


def iou_and_diou(
    boxes: Tensor, others: Tensor, divisor: Literal["union", "box"] = "union"
) -> tuple[Tensor, Tensor]:
    """Return IoU and distance IoU (DIoU), (P, G) each, of boxes (P, 4) with others (G, 4).

    DIoU is the IoU less the squared distance of both centers, divided by the squared diagonal of
    the smallest enclosing box (Zheng et al., AAAI 2020). With ``divisor="box"``, the first part of
    DIoU is the overlap divided by the area of the box.
    """
    top_left, other_top_left = boxes[:, None, :2], others[:, :2]
    bottom_right, other_bottom_right = boxes[:, None, 2:], others[:, 2:]
    common = torch.minimum(bottom_right, other_bottom_right)
    overlap = (common - torch.maximum(top_left, other_top_left)).clamp(min=0).prod(-1)
    area = (bottom_right - top_left).prod(-1)
    other_area = (other_bottom_right - other_top_left).prod(-1)
    iou = overlap / (area + other_area - overlap).clamp(min=1e-6)
    share = iou if divisor == "union" else overlap / area.clamp(min=1e-6)
    enclosing = torch.maximum(bottom_right, other_bottom_right)
    enclosing = enclosing - torch.minimum(top_left, other_top_left)
    # The difference of the sums of corners is twice that of the centers.
    doubled = top_left + bottom_right - other_top_left - other_bottom_right
    distance = doubled.square().sum(-1) / 4
    return iou, share - distance / enclosing.square().sum(-1).clamp(min=1e-6)


def shares_inside(boxes: Tensor, others: Tensor) -> Tensor:
    """Return (P, G): the share, 0 to 1, of each box's area (P, 4) inside each of others (G, 4)."""
    top_left = torch.maximum(boxes[:, None, :2], others[:, :2])
    bottom_right = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    overlap = (bottom_right - top_left).clamp(min=0).prod(2)
    return overlap / _area(boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)[:, None]


def clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return boxes (N, 4), xyxy in pixels, clipped to an image without its padding."""
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack([x, y], -1).flatten(-2)


def suppress_overlaps(
    boxes: Tensor, eligible: Tensor, overlap: float, count: int
) -> tuple[Tensor, Tensor]:
    """Return the first ``count`` boxes (B, count, 4) that suppression keeps, and their number (B,).

    It is non-maximum suppression for all images at once; the boxes equal those of torchvision's,
    which compares all pairs. ``boxes``: (B, N, 4), best first; ``eligible``: (B, N), true for
    boxes that take part. A row beyond its image's number of boxes is undefined.
    """
    x1, y1, x2, y2 = boxes.unbind(2)
    area = (x2 - x1) * (y2 - y1)
    images = torch.arange(len(boxes), device=boxes.device)
    remaining, selected, valid = eligible, [], []
    for _ in range(min(count, boxes.shape[1])):
        best = remaining.int().argmax(1)  # the first that remains; 0 if none does
        best_box, is_valid = boxes[images, best], remaining[images, best]
        left, top, right, bottom = best_box[..., None].unbind(1)
        width = torch.minimum(x2, right) - torch.maximum(x1, left)
        height = torch.minimum(y2, bottom) - torch.maximum(y1, top)
        intersection = width.clamp(min=0) * height.clamp(min=0)
        iou = intersection / (area[images, best][:, None] + area - intersection)
        remaining = remaining & ~(iou > overlap)
        remaining[images, best] = False  # the IoU of an empty box with itself is not a number
        selected.append(best_box)
        valid.append(is_valid)
    return torch.stack(selected, 1), torch.stack(valid, 1).sum(1)


def rois_of(boxes_by_image: list[Tensor]) -> Tensor:
    """Return RoIs (R, 5), image and xyxy in pixels, of the boxes of each image (R_i, 4)."""
    rows = [F.pad(boxes, (1, 0), value=image) for image, boxes in enumerate(boxes_by_image)]
    return torch.cat(rows)


def _overlap_and_union(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas (P,) of the intersection and of the union of boxes, both (P, 4), by row."""
    top_left = torch.maximum(boxes[:, :2], others[:, :2])
    bottom_right = torch.minimum(boxes[:, 2:], others[:, 2:])
    overlap = _area(bottom_right - top_left)
    union = _area(boxes[:, 2:] - boxes[:, :2]) + _area(others[:, 2:] - others[:, :2]) - overlap
    return overlap, union


def _area(sides: Tensor) -> Tensor:
    width, height = sides.clamp(min=0).unbind(1)
    return width * height
