"""Spatial transformer: bilinear crops of images, with gradients to the boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")


def affine(boxes: Tensor, width: int, height: int) -> Tensor:
    """Return A (P, 2, 3), from a crop's coordinates in [-1, 1] to those of its image.

    The first row maps x to (x2 - x1) / W x + (x1 + x2) / W - 1, the second y likewise.
    ``boxes``: (P, 4), xyxy in pixels. DICOD (arXiv 2106.05209), equation 8; a box that covers the
    whole image gives the identity.
    """
    x1, y1, x2, y2 = boxes.unbind(1)
    zero = torch.zeros_like(x1)
    x_row = torch.stack([(x2 - x1) / width, zero, (x1 + x2) / width - 1], 1)
    y_row = torch.stack([zero, (y2 - y1) / height, (y1 + y2) / height - 1], 1)
    return torch.stack([x_row, y_row], 1)


def crops(images: Tensor, image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return (P, C, size, size): bilinear samples of images (B, C, H, W) at a grid in each box.

    ``image``: (P,), the row of ``images`` of each box; ``boxes``: (P, 4), xyxy in pixels. The
    top left corner is clamped to 0 and the bottom right one to the padded image's size, as in
    DICOD's code (NVlabs/DICOD f51fc995).
    """
    # A grid samples one image: group boxes by image, then put their crops back in order.
    order = image.argsort(stable=True)
    counts = (image == torch.arange(len(images), device=image.device)[:, None]).sum(1).tolist()
    return crops_by_image(images, boxes[order].split(counts), size)[order.argsort()]


def crops_by_image(images: Tensor, boxes: Sequence[Tensor], size: int) -> Tensor:
    """Return ``crops`` of the boxes of each image, each (P, 4), one image after another."""
    height, width = images.shape[-2:]
    joint_boxes = torch.cat(tuple(boxes))
    # A tensor built from a list would make the host wait for its copy to the GPU.
    limit = torch.stack([joint_boxes.new_full((), side) for side in (width, height)])
    top_left, bottom_right = joint_boxes[:, :2].clamp(min=0), joint_boxes[:, 2:].minimum(limit)
    theta = affine(torch.cat([top_left, bottom_right], 1), width, height)
    pairs = zip(images, theta.split([len(image_boxes) for image_boxes in boxes]), strict=True)
    samples = [_sample(image, matrices, size) for image, matrices in pairs if len(matrices)]
    return torch.cat([images.new_zeros(0, images.shape[1], size, size), *samples])


def _sample(image: Tensor, theta: Tensor, size: int) -> Tensor:
    """Return (P, C, size, size) of an image (C, H, W), sampled at matrices ``theta`` (P, 2, 3)."""
    grid = F.affine_grid(theta, [len(theta), 1, size, size], align_corners=False)
    # The grids of all crops form one tall grid, so the image is not copied for each crop.
    tall = F.grid_sample(image[None], grid.flatten(0, 1)[None], align_corners=False)
    return tall[0].unflatten(1, (-1, size)).transpose(0, 1)
