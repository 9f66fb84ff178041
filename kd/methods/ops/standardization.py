"""Statistics of the channels of maps over all images and cells of a step, in all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.common.modules import LazyModule
from kd.methods.ops.reduction import over, shared_sum

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")

CELLS = (0, 2, 3)
"""Dimensions of a map (B, C, H, W) that a channel's statistics cover."""
ROUNDING = 16
"""Smallest standard deviation of a channel that is not constant, in units of its mean's rounding.
"""
CORRELATION_EPSILON = 1e-6
"""Number that is added to standard deviations (open-mmlab/mmrazor 90c7af1f)."""
NORMALIZATION_EPSILON = 1e-5
"""Number that batch normalization adds to variances; it is the default of torch."""


def correlation_distance(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean over channels of (1 / 2m) sum ||s~ - t~||^2, from maps (B, C, H, W).

    s~ and t~ are the channel's m values, less their mean, divided by their standard deviation
    (with m - 1) plus ``CORRELATION_EPSILON``. For m large it is 1 - r, r the Pearson correlation.

    A channel that is constant on one side has no correlation: its s~ or t~ is 0, without a
    gradient. Published code divides by ``CORRELATION_EPSILON`` there, a gradient up to 10^6 times
    as large.
    """
    moments, means, count = _moments(student_map, teacher_map)
    inverse = _inverse_deviations(moments[:2], means, count)
    student, teacher, product = moments * torch.stack([*inverse.square(), inverse.prod(0)])
    return ((student + teacher - 2 * product) / (2 * count)).mean()


def batch_normalized(maps: Tensor) -> Tensor:
    """Return maps (B, C, H, W), each channel less its mean, divided by its standard deviation.

    It is a batch normalization in training without learned scale and shift: the variance is that
    over m values with divisor m, and ``NORMALIZATION_EPSILON`` is added to it. If a batch is
    computed in parts, the statistics are those of a part.
    """
    with over(None):
        count = shared_sum(maps.new_full((1,), maps.numel() / maps.shape[1]))
        centered = maps - (shared_sum(maps.sum(CELLS)) / count)[:, None, None]
        variance = shared_sum(centered.square().sum(CELLS)) / count
    return centered * (variance + NORMALIZATION_EPSILON).rsqrt()[:, None, None]


def _moments(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (3, C) sums of s^2, t^2 and s t, the means (2, C), and the number of values (1,).

    s and t are a channel's values less their mean. The means have no gradient: the sums do not
    depend on them to first order.
    """
    maps = (student_map, teacher_map.detach())
    with torch.no_grad():
        size = student_map.new_full((1,), student_map.numel() / student_map.shape[1])
        totals = shared_sum(torch.cat([*(level.sum(CELLS) for level in maps), size]))
        count = totals[-1:]
        means = totals[:-1].view(2, -1) / count
    student, teacher = (
        level - mean[:, None, None] for level, mean in zip(maps, means, strict=True)
    )
    products = (student.square(), teacher.square(), student * teacher)
    moments = shared_sum(torch.stack([product.sum(CELLS) for product in products]), depth=1)
    return moments, means, count


def _inverse_deviations(squares: Tensor, means: Tensor, count: Tensor) -> Tensor:
    """Return 1 / (sigma + epsilon) by side and channel, and 0 for a constant channel.

    The mean of a constant channel is not exact in floating point, so that its deviation from the
    mean may be a rounding error instead of 0.
    """
    variances = squares / (count - 1).clamp(min=1)
    rounding = ROUNDING * torch.finfo(means.dtype).eps * means.abs()
    is_constant = variances <= rounding.square()
    # The root of 0 has no finite gradient, also where ``where`` drops its value.
    deviations = torch.where(is_constant, 1, variances).sqrt()
    return torch.where(is_constant, 0, 1 / (deviations + CORRELATION_EPSILON))
