"""Which cells of a feature map belong to an object: the masks of imitation methods."""

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

    Fill = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """From a cell's row and column in its box, and the box's height and width in cells, to its
    value; shapes that broadcast."""
else:
    torch = LazyModule("torch")
    rnn = LazyModule("torch.nn.utils.rnn")

VALUES = 2**22
"""How many numbers are held at once where values of several boxes are compared."""


def level_of(
    boxes: Tensor, levels: int, sides: Sequence[float] | None = None, added: float = 1
) -> Tensor:
    """Return the pyramid level (...) of boxes (..., 4), xyxy in pixels: 0 is the finest.

    ``sides``: the sides of a square box, in pixels, at which the second level begins, the third,
    and so on; None for the published ones. Levels beyond the last stay empty. A box's side is the
    square root of its area. ``added``: pixels added to width and height. It is 1 in DeFeat's code
    (ggjy/DeFeat.pytorch c46a793d) and in United-Perception, and 0 where regions are pooled (FPN's
    rule; detectron2, mmdet).
    """
    sides = published_sides(levels) if sides is None else sides[: levels - 1]
    width, height = (boxes[..., 2:] - boxes[..., :2] + added).unbind(-1)
    side = (width * height).sqrt()
    # DeFeat adds 1e-6 to the ratio of the side to half of the first threshold.
    slack = 1e-6 * sides[0] / 2 if sides else 0.0
    level = torch.zeros_like(side, dtype=torch.long)
    for begin in sides:
        level += side + slack >= begin
    return level


def cells_of(boxes: Tensor, stride: float, height: int, width: int) -> Tensor:
    """Return the cells (..., 4) of boxes (..., 4): left, top, right, bottom, ends exclusive.

    Coordinates are truncated to cells; a box that covers none gets the one at its corner. The
    rule is DeFeat's (ggjy/DeFeat.pytorch c46a793d), with cells beyond the border moved inside.
    """
    left, top, right, bottom = (boxes / stride).long().unbind(-1)
    left, top = left.clamp(0, width - 1), top.clamp(0, height - 1)
    right, bottom = right.clamp(max=width), bottom.clamp(max=height)
    empty = (right <= left) | (bottom <= top)
    right, bottom = torch.where(empty, left + 1, right), torch.where(empty, top + 1, bottom)
    return torch.stack([left, top, right, bottom], -1)


def object_masks(
    batch: Batch,
    strides: list[int],
    sizes: list[tuple[int, int]],
    fill: Fill | None = None,
    sides: Sequence[float] | None = None,
) -> list[Tensor]:
    """Return, per level (B, H, W), the cells of the objects that belong to the level.

    ``sizes``: (H, W) of each level; ``fill``: what a cell of a box gets, 1 if None. Where boxes
    overlap the larger value stays. ``level_of`` assigns boxes to levels, by ``sides``.
    """
    boxes, real = _padded(batch.gt_boxes)
    own = level_of(boxes, len(strides), sides)
    order = sorted(range(len(strides)), key=strides.__getitem__)
    return [
        _mask(boxes, real & (own == order.index(level)), strides[level], size, fill)
        for level, size in enumerate(sizes)
    ]


def object_mask(batch: Batch, stride: float, size: tuple[int, int]) -> Tensor:
    """Return (B, H, W): the cells of all objects, at one stride."""
    return _mask(*_padded(batch.gt_boxes), stride, size, None)


def center_masks(batch: Batch, priors: list[Tensor], sizes: list[tuple[int, int]]) -> list[Tensor]:
    """Return, per level (B, H, W), 1 for cells with a prior whose center is inside an object.

    ``priors``: by level (N, 4), xyxy in pixels, ordered by row, column and anchor. A center on a
    box's border is outside, and every level counts for every box: mode ``fitnet`` of LD's code
    (HikariTJU/LD 4287990c, ``ld_head.py``, get_im_region).
    """
    boxes, real = _padded(batch.gt_boxes)
    near, far = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    masks = []
    for level, size in zip(priors, sizes, strict=True):
        center = (level[:, :2] + level[:, 2:]) / 2
        inside = ((center > near) & (center < far)).all(-1) & real[..., None]
        masks.append(inside.any(1).reshape(len(boxes), *size, -1).any(-1).float())
    return masks


def _padded(by_image: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the boxes of all images (B, G, 4), and which of them are boxes at all (B, G)."""
    real = [boxes.new_ones(len(boxes)) for boxes in by_image]
    boxes, there = (rnn.pad_sequence(each, batch_first=True) for each in (by_image, real))
    return boxes, there > 0


def _mask(
    boxes: Tensor, drawn: Tensor, stride: float, size: tuple[int, int], fill: Fill | None
) -> Tensor:
    """Return (B, H, W) from boxes (B, G, 4), of which some are drawn (B, G).

    A box is a range of rows times one of columns, so that none is gone through on its own.
    """
    left, top, right, bottom = cells_of(boxes, stride, *size)[..., None].unbind(-2)
    row, column = (torch.arange(cells, device=boxes.device) for cells in size)
    rows = (row >= top) & (row < bottom) & drawn[..., None]
    columns = (column >= left) & (column < right)
    if fill is None:
        return (rows.transpose(1, 2).float() @ columns.float()).clamp(max=1)
    values = boxes.new_zeros(len(boxes), 1, *size)
    at_once = max(1, VALUES // values.numel())
    for start in range(0, boxes.shape[1], at_once):
        part = slice(start, start + at_once)
        y, x = ((row - top)[:, part, :, None], (column - left)[:, part, None])
        y, x = y.to(boxes.dtype), x.to(boxes.dtype)
        sides = ((bottom - top)[:, part, None], (right - left)[:, part, None])
        inside = rows[:, part, :, None] & columns[:, part, None]
        drawn_values = fill(y, x, *sides).where(inside, 0)
        values = torch.cat([values, drawn_values], 1).amax(1, keepdim=True)
    return values[:, 0]
