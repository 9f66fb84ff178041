"""The spatial transformer of DICOD: boxes of images, sampled on a square grid."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(images: Tensor, boxes: Tensor, size: int, padding: str = "zeros") -> Tensor:
    """Return what lies in boxes (P, 4; xyxy, pixels) as (P, C, size, size).

    ``images``: (P, C, H, W), or (1, C, H, W) for all boxes. Bilinear, differentiable in images and
    boxes; a box of the whole image resizes it. DICOD (Guo et al. 2021), eq. 8 and 9, with half
    pixels as in the authors' code (``align_corners=False``).
    """
    height, width = images.shape[-2:]
    x1, y1, x2, y2 = boxes.unbind(1)
    none = torch.zeros_like(x1)
    rows = [
        torch.stack([(x2 - x1) / width, none, (x1 + x2) / width - 1], 1),
        torch.stack([none, (y2 - y1) / height, (y1 + y2) / height - 1], 1),
    ]
    shape = [len(boxes), images.shape[1], size, size]
    grid = F.affine_grid(torch.stack(rows, 1), shape, align_corners=False)
    images = images.expand(len(boxes), -1, -1, -1)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
