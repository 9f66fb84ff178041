"""Masks over feature maps: cells of objects, by pyramid level or at one stride."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kd.common.modules import LazyModule
from kd.methods.ops.pyramid import published_sides

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn.utils import rnn

    from kd.observers import Batch

    CellWeight = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """Function of a cell's row and column in its box and of the box's height and width, all in
    cells. It returns the cell's weight; the four shapes broadcast."""
else:
    torch = LazyModule("torch")
    rnn = LazyModule("torch.nn.utils.rnn")

MOST_WEIGHTS = 2**22
"""Largest number of weights in memory at once while those of several boxes are compared."""


def map_sizes(maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Return the height and width, in cells, of each map (B, C, H, W)."""
    return [(level.shape[-2], level.shape[-1]) for level in maps]


def level_of(
    boxes: Tensor, levels: int, sides: Sequence[float] | None = None, added: float = 1
) -> Tensor:
    """Return the pyramid level (...) of boxes (..., 4), xyxy in pixels; 0 is the finest.

    The level is the number of ``sides`` that the box's side, the square root of its area, reaches.
    ``sides``: sides of a square box, in pixels, at which the second, third, ... level begins; None
    selects the published ones, and sides beyond the last level are ignored. ``added``: pixels added
    to width and height, which are 1 in DeFeat's code (ggjy/DeFeat.pytorch c46a793d) and in
    United-Perception, and 0 where regions are pooled (FPN's rule; detectron2, mmdet).
    """
    sides = published_sides(levels) if sides is None else sides[: levels - 1]
    width, height = (boxes[..., 2:] - boxes[..., :2] + added).unbind(-1)
    side = (width * height).sqrt()
    # DeFeat adds 1e-6 to the ratio of the side to half of the first threshold.
    slack = 1e-6 * sides[0] / 2 if sides else 0.0
    # The level rises by one with each threshold that the side reaches.
    level = torch.zeros_like(side, dtype=torch.long)
    for first_side in sides:
        level += side + slack >= first_side
    return level


def cells_of(boxes: Tensor, stride: float, height: int, width: int) -> Tensor:
    """Return the cells (..., 4) that boxes (..., 4) cover.

    A row is left, top, right and bottom, the last two exclusive. Coordinates are truncated to
    cells. A box that covers no cell gets the one at its corner. The rule is DeFeat's
    (ggjy/DeFeat.pytorch c46a793d), with cells beyond the border moved inside.
    """
    left, top, right, bottom = (boxes / stride).long().unbind(-1)
    left, top = left.clamp(0, width - 1), top.clamp(0, height - 1)
    right, bottom = right.clamp(max=width), bottom.clamp(max=height)
    empty = (right <= left) | (bottom <= top)
    right, bottom = torch.where(empty, left + 1, right), torch.where(empty, top + 1, bottom)
    return torch.stack([left, top, right, bottom], -1)


def object_masks(
    batch: Batch,
    strides: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    sides: Sequence[float] | None = None,
) -> list[Tensor]:
    """Return, per level (B, H, W), 1 in the cells of that level's objects and 0 elsewhere.

    ``strides``: pixels per cell of each level, in any order; ``sizes``: its height and width in
    cells; ``sides``: the sides that assign boxes to levels, as in ``level_of``.
    """
    boxes, images = _boxes_on_host(batch)
    ranks = level_of(boxes, len(strides), sides).tolist()
    # Strides may be in any order: YOLOv3's are coarsest first.
    finest_first = sorted(strides)
    masks = []
    for stride, size in zip(strides, sizes, strict=True):
        rows = [row for row, rank in enumerate(ranks) if rank == finest_first.index(stride)]
        mask = torch.zeros(len(batch.samples), *size)
        _draw(mask, boxes[rows], [images[row] for row in rows], stride)
        masks.append(mask.to(batch.inputs.device))
    return masks


def object_mask(batch: Batch, stride: float, size: tuple[int, int]) -> Tensor:
    """Return (B, H, W): 1 in the cells of all objects at one stride, 0 elsewhere."""
    mask = torch.zeros(len(batch.samples), *size)
    _draw(mask, *_boxes_on_host(batch), stride)
    return mask.to(batch.inputs.device)


def weighted_masks(
    batch: Batch,
    strides: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    weight: CellWeight,
    sides: Sequence[float] | None = None,
) -> list[Tensor]:
    """Return, per level (B, H, W), the weights of the cells of that level's objects, else 0.

    A cell of several boxes has the largest of their weights. ``weight`` computes a cell's weight;
    the other arguments are those of ``object_masks``.
    """
    boxes, is_box = padded_boxes(batch.gt_boxes)
    ranks = level_of(boxes, len(strides), sides)
    finest_first = sorted(strides)
    return [
        _weighted_mask(boxes, is_box & (ranks == finest_first.index(stride)), stride, size, weight)
        for stride, size in zip(strides, sizes, strict=True)
    ]


def center_masks(batch: Batch, priors: list[Tensor], sizes: list[tuple[int, int]]) -> list[Tensor]:
    """Return, per level (B, H, W), 1 for cells with a prior whose center is inside an object.

    ``priors``: by level (N, 4), xyxy in pixels, ordered by row, column and anchor. A center on a
    box's border is outside, and every level counts for every box: mode ``fitnet`` of LD's code
    (HikariTJU/LD 4287990c, ``ld_head.py``, get_im_region).
    """
    boxes, is_box = padded_boxes(batch.gt_boxes)
    top_left, bottom_right = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    masks = []
    for level_priors, size in zip(priors, sizes, strict=True):
        center = (level_priors[:, :2] + level_priors[:, 2:]) / 2
        inside = ((center > top_left) & (center < bottom_right)).all(-1) & is_box[..., None]
        # (B, G, N) to (B, H, W): of any box, and of any anchor of the cell.
        masks.append(inside.any(1).reshape(len(boxes), *size, -1).any(-1).float())
    return masks


def _boxes_on_host(batch: Batch) -> tuple[Tensor, list[int]]:
    """Return the boxes of all images (G, 4) in host memory, and the image of each."""
    # One copy: a GPU would otherwise be waited for at each box that is drawn.
    boxes = torch.cat(batch.gt_boxes).cpu()
    return boxes, [image for image, boxes in enumerate(batch.gt_boxes) for _ in boxes]


def _draw(mask: Tensor, boxes: Tensor, images: list[int], stride: float) -> None:
    """Set the cells of boxes (G, 4), each in its image, to 1 in a mask (B, H, W)."""
    cells = cells_of(boxes, stride, *mask.shape[1:]).tolist()
    for image, (left, top, right, bottom) in zip(images, cells, strict=True):
        mask[image, top:bottom, left:right] = 1


def padded_boxes(boxes_by_image: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the boxes of all images (B, G, 4), padded, and which of them are boxes (B, G)."""
    ones = [boxes.new_ones(len(boxes)) for boxes in boxes_by_image]
    boxes, is_box = (rnn.pad_sequence(rows, batch_first=True) for rows in (boxes_by_image, ones))
    return boxes, is_box > 0


def _weighted_mask(
    boxes: Tensor, on_level: Tensor, stride: float, size: tuple[int, int], weight: CellWeight
) -> Tensor:
    """Return (B, H, W): each cell's largest weight in the boxes (B, G, 4) on the level (B, G)."""
    return largest_weights(cells_of(boxes, stride, *size), on_level, size, weight, boxes.dtype)


def largest_weights(
    cells: Tensor, is_box: Tensor, size: tuple[int, int], weight: CellWeight, dtype: torch.dtype
) -> Tensor:
    """Return (B, H, W): each cell's largest weight in the boxes that cover it, 0 without one.

    ``cells``: (B, G, 4), left, top, right and bottom, the last two exclusive, as in ``cells_of``;
    they may lie beyond the border. ``is_box``: (B, G), false for rows that are no box.
    """
    left, top, right, bottom = cells[..., None].unbind(-2)
    row, column = (torch.arange(count, device=cells.device) for count in size)
    # A box is a range of rows (B, G, H) times a range of columns (B, G, W).
    rows = (row >= top) & (row < bottom) & is_box[..., None]
    columns = (column >= left) & (column < right)
    largest = cells.new_zeros(len(cells), 1, *size, dtype=dtype)
    # The weights of all boxes, (B, G, H, W), may not fit into memory, so boxes are taken in parts.
    boxes_at_once = max(1, MOST_WEIGHTS // largest.numel())
    for start in range(0, cells.shape[1], boxes_at_once):
        part = slice(start, start + boxes_at_once)
        y, x = (row - top)[:, part, :, None], (column - left)[:, part, None]
        y, x = y.to(dtype), x.to(dtype)
        box_size = (bottom - top)[:, part, None], (right - left)[:, part, None]
        inside = rows[:, part, :, None] & columns[:, part, None]
        weights = weight(y, x, *box_size).where(inside, 0)
        # The maximum of the earlier parts competes as one more box.
        largest = torch.cat([largest, weights], 1).amax(1, keepdim=True)
    return largest[:, 0]
