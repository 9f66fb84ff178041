"""Gradient of RoIAlign on small maps as two matrix products, which a CPU computes much faster.

A bilinear sample is a product of weights along both axes, so the averages of a RoI are
``A_y F A_x^T``, with matrices (cells, side) of the samples' weights. Their gradient is
``A_y^T G A_x``. torchvision's kernel scatters the gradient sample by sample instead.
"""

import torch
from torch import Tensor

LARGEST_MAP = 64 * 64
"""Cells of the largest maps for which products over whole maps are faster."""


def separable(gradient: Tensor, shape: torch.Size) -> bool:
    """Return True if ``spread`` is faster than torchvision, for maps of ``shape`` (B, C, H, W)."""
    return gradient.device.type == "cpu" and shape[2] * shape[3] <= LARGEST_MAP


def spread(
    gradient: Tensor, rois: Tensor, shape: torch.Size, scale: float, ratio: int, aligned: bool
) -> Tensor:
    """Return the gradient for maps of ``shape`` (B, C, H, W), given that of RoIs (K, C, h, w).

    ``rois``: (K, 5), index and xyxy in pixels; ``ratio``: samples along a cell, 0 for a number that
    depends on the RoI's size. Samples are placed as in ``torchvision.ops.roi_align`` (0.26).
    """
    map_gradient = gradient.new_zeros(shape)
    # ``aligned`` puts the centers of cells at half coordinates.
    near = rois[:, 1:3] * scale - 0.5 * aligned
    length = (rois[:, 3:5] - rois[:, 1:3]) * scale
    if not aligned:
        length = length.clamp(min=1)
    across, down = (
        _weights(near[:, axis], length[:, axis], gradient.shape[3 - axis], shape[3 - axis], ratio)
        for axis in (0, 1)
    )
    order = rois[:, 0].argsort(stable=True)
    images = torch.arange(shape[0], device=rois.device)
    counts = (rois[:, 0] == images[:, None]).sum(1).tolist()
    for image_gradient, rows in zip(map_gradient, order.split(counts), strict=True):
        lines = gradient[rows].transpose(1, 2)  # (n, h, C, w)
        wide = lines.flatten(1, 2) @ across[rows]  # G A_x: (n, h * C, W)
        tall = wide.unflatten(1, lines.shape[1:3]).flatten(2).flatten(0, 1)  # (n * h, C * W)
        # One product sums over the RoIs of the image as well: A_y^T (G A_x), (H, C * W).
        summed = down[rows].flatten(0, 1).mT @ tall
        image_gradient.copy_(summed.unflatten(1, (-1, shape[3])).transpose(0, 1))
    return map_gradient


def _weights(start: Tensor, length: Tensor, cells: int, side: int, ratio: int) -> Tensor:
    """Return weights (K, cells, side) of each line of a map in each cell of RoIs, along an axis.

    ``start``, ``length``: (K,), in the map's cells. A sample more than a cell outside the map has
    weight 0; a nearer one is moved to the border.
    """
    step = (length / cells)[:, None, None]
    count = torch.full_like(step, ratio) if ratio > 0 else step.ceil().clamp(min=0)
    divisor = count.clamp(min=1)
    most = ratio if ratio > 0 or not len(divisor) else int(divisor.max())
    sample = torch.arange(max(most, 0), device=start.device)
    cell = torch.arange(cells, device=start.device)[:, None]
    # Samples are evenly spaced in a cell: the n-th of them lies at (n + 1/2) / count.
    at = start[:, None, None] + step * (cell + (sample + 0.5) / divisor)
    counts = ((sample < count) & (at >= -1) & (at <= side)) / divisor
    line = torch.arange(side, device=start.device)
    # Linear interpolation: a line weighs 1 less its distance, so only two lines have a weight.
    near = 1 - (at.clamp(0, side - 1)[..., None] - line).abs()
    return (near.clamp(min=0) * counts[..., None]).sum(2)
