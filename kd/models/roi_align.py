"""RoIAlign's gradient on small maps as two matrix products, which a CPU does many times sooner.

A bilinear sample is a product of weights along both axes, so what a RoI averages is
``A_y F A_x^T``, with matrices (cells, side) of the samples' weights. torchvision's kernel scatters
the gradient sample by sample instead.
"""

import torch
from torch import Tensor

LARGEST = 64 * 64
"""Cells of the maps for which products over whole maps are the shorter way."""


def separable(gradient: Tensor, shape: torch.Size) -> bool:
    """Return whether ``spread`` is the shorter way to maps of ``shape`` (B, C, H, W)."""
    return gradient.device.type == "cpu" and shape[2] * shape[3] <= LARGEST


def spread(
    gradient: Tensor, rois: Tensor, shape: torch.Size, scale: float, ratio: int, aligned: bool
) -> Tensor:
    """Return the gradient for maps of ``shape`` (B, C, H, W), given that of RoIs (K, C, h, w).

    ``rois``: (K, 5), index and xyxy in pixels; ``ratio``: samples along a cell, 0 for as many as a
    RoI's size asks for. Samples lie as in ``torchvision.ops.roi_align`` (0.26).
    """
    found = gradient.new_zeros(shape)
    near = rois[:, 1:3] * scale - 0.5 * aligned
    length = (rois[:, 3:5] - rois[:, 1:3]) * scale
    if not aligned:
        length = length.clamp(min=1)
    across, down = (
        _weights(near[:, axis], length[:, axis], gradient.shape[3 - axis], shape[3 - axis], ratio)
        for axis in (0, 1)
    )
    for image, own in enumerate(found):
        rows = (rois[:, 0] == image).nonzero()[:, 0]
        lines = gradient[rows].transpose(1, 2)  # (n, h, C, w)
        wide = lines.flatten(1, 2) @ across[rows]
        tall = wide.unflatten(1, lines.shape[1:3]).flatten(2).flatten(0, 1)
        own.copy_((down[rows].flatten(0, 1).mT @ tall).unflatten(1, (-1, shape[3])).transpose(0, 1))
    return found


def _weights(start: Tensor, length: Tensor, cells: int, side: int, ratio: int) -> Tensor:
    """Return (K, cells, side): what each line of a map weighs in each cell of RoIs along an axis.

    ``start``, ``length``: (K,), in the map's cells. A sample more than a cell outside weighs
    nothing, one nearer lies on the border.
    """
    step = (length / cells)[:, None, None]
    count = torch.full_like(step, ratio) if ratio > 0 else step.ceil().clamp(min=0)
    each = count.clamp(min=1)
    sample = torch.arange(int(each.max()) if len(each) else 0, device=start.device)
    cell = torch.arange(cells, device=start.device)[:, None]
    at = start[:, None, None] + step * (cell + (sample + 0.5) / each)
    counts = ((sample < count) & (at >= -1) & (at <= side)) / each
    line = torch.arange(side, device=start.device)
    near = 1 - (at.clamp(0, side - 1)[..., None] - line).abs()
    return (near.clamp(min=0) * counts[..., None]).sum(2)
