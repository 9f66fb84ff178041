"""Frozen strided convolution whose gradient is a plain convolution, which is faster on a CPU.

Pixels of one phase of the stride all depend on the same few outputs. The gradient is therefore one
convolution with a channel for each phase, rearranged to pixels (pixel shuffle; Shi et al., CVPR
2016, use it to enlarge images). torch's transposed convolution is slow for few input channels, such
as those of a stem.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def conv2d(images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """Return ``F.conv2d`` of images (P, C, H, W), with a gradient to the images alone."""
    phases = images.shape[-2] % stride == images.shape[-1] % stride == 0
    if images.device.type == "cpu" and stride > 1 and phases:
        outputs: Tensor = _Strided.apply(images, weight, bias, stride, padding)
        return outputs
    return F.conv2d(images, weight, bias, stride, padding)


class _Strided(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.stride, ctx.padding = images.shape[-2:], stride, padding
        return F.conv2d(images, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        return _transposed(gradient, weight, ctx.size, ctx.stride, ctx.padding), *[None] * 4


def _transposed(
    gradient: Tensor, weight: Tensor, size: torch.Size, stride: int, padding: int
) -> Tensor:
    """Return the gradient to images (P, C, H, W), given that to outputs (P, O, h, w).

    ``weight``: (O, C, k, k). A pixel s m + r, of phase r at stride s, enters the outputs m + t with
    the factor weight[r + padding - s t], for t from ``first`` to ``last``.
    """
    side = weight.shape[-1]
    first, last = -((side - 1 - padding) // stride), (stride - 1 + padding) // stride
    low, high = padding - stride * last, stride - 1 + padding - stride * first
    # Pad to whole strides, then split each axis into taps t and phases r.
    whole = F.pad(weight, (-low, high - side + 1) * 2).flip(2, 3)
    taps = whole.unflatten(3, (-1, stride)).unflatten(2, (-1, stride)).flip(3, 5)
    kernel = taps.permute(1, 3, 5, 0, 2, 4).flatten(0, 2)  # (C s s, O, taps, taps)
    # Border that makes the convolution return one output for each stride of the image.
    height, width = (
        side // stride - 1 + last - (outputs - 1)
        for side, outputs in zip(size, gradient.shape[2:], strict=True)
    )
    bordered = F.pad(gradient, (-first, width, -first, height))
    return F.pixel_shuffle(F.conv2d(bordered, kernel), stride)
