"""Spatial transformer: what lies in boxes, sampled so that boxes get gradients."""

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

    ``boxes``: (P, 4), xyxy in pixels. DICOD (arXiv 2106.05209), equation 8; a box that is the
    whole image has the identity.
    """
    x1, y1, x2, y2 = boxes.unbind(1)
    none = torch.zeros_like(x1)
    across = torch.stack([(x2 - x1) / width, none, (x1 + x2) / width - 1], 1)
    down = torch.stack([none, (y2 - y1) / height, (y1 + y2) / height - 1], 1)
    return torch.stack([across, down], 1)


def crops(images: Tensor, image: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return (P, C, size, size): bilinear samples of images (B, C, H, W) at a grid in each box.

    ``image``: (P,), which one; ``boxes``: (P, 4), xyxy in pixels. The near corner is kept from
    lying before the padded image and the far corner from lying beyond it, as in DICOD's code
    (NVlabs/DICOD f51fc995).
    """
    order = image.argsort(stable=True)
    counts = (image == torch.arange(len(images), device=image.device)[:, None]).sum(1).tolist()
    return crops_by_image(images, boxes[order].split(counts), size)[order.argsort()]


def crops_by_image(images: Tensor, boxes: Sequence[Tensor], size: int) -> Tensor:
    """Return what ``crops`` does of boxes given by image, each (P, 4), one image after another."""
    height, width = images.shape[-2:]
    joined = torch.cat(tuple(boxes))
    corner = torch.stack([joined.new_full((), side) for side in (width, height)])
    near, far = joined[:, :2].clamp(min=0), joined[:, 2:].minimum(corner)
    theta = affine(torch.cat([near, far], 1), width, height)
    parts = zip(images, theta.split([len(each) for each in boxes]), strict=True)
    found = [_sample(image, part, size) for image, part in parts if len(part)]
    return torch.cat([images.new_zeros(0, images.shape[1], size, size), *found])


def _sample(image: Tensor, theta: Tensor, size: int) -> Tensor:
    """Return (P, C, size, size) of an image (C, H, W), which is not copied for each crop."""
    grid = F.affine_grid(theta, [len(theta), 1, size, size], align_corners=False)
    tall = F.grid_sample(image[None], grid.flatten(0, 1)[None], align_corners=False)
    return tall[0].unflatten(1, (-1, size)).transpose(0, 1)
