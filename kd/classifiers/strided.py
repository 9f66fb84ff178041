"""A frozen strided convolution, whose gradient a CPU has sooner as a convolution of its own.

Each pixel of a stride's phase is a sum over the same few outputs, so the gradient is one
convolution to a channel for each phase, rearranged to pixels (Shi et al., CVPR 2016, who go this
way to larger images). A convolution with few input channels, such as a stem's, is transposed
slowly.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def conv2d(images: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
    """Return ``F.conv2d`` of images (P, C, H, W), with a gradient to these alone."""
    phases = images.shape[-2] % stride == images.shape[-1] % stride == 0
    if images.device.type == "cpu" and stride > 1 and phases:
        found: Tensor = _Strided.apply(images, weight, bias, stride, padding)
        return found
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
    """Return (P, C, H, W) of a gradient (P, O, h, w) of outputs of ``weight`` (O, C, k, k).

    A pixel s m + r of phase r has the outputs m + t, from ``first`` to ``last``, by
    weight[r + padding - s t].
    """
    side = weight.shape[-1]
    first, last = -((side - 1 - padding) // stride), (stride - 1 + padding) // stride
    low, high = padding - stride * last, stride - 1 + padding - stride * first
    whole = F.pad(weight, (-low, high - side + 1) * 2).flip(2, 3)
    taps = whole.unflatten(3, (-1, stride)).unflatten(2, (-1, stride)).flip(3, 5)
    kernel = taps.permute(1, 3, 5, 0, 2, 4).flatten(0, 2)  # (C s s, O, taps, taps)
    height, width = (
        own // stride - 1 + last - (out - 1)
        for own, out in zip(size, gradient.shape[2:], strict=True)
    )
    bordered = F.pad(gradient, (-first, width, -first, height))
    return F.pixel_shuffle(F.conv2d(bordered, kernel), stride)
