"""Deformable convolutions of mmcv's compiled module (v1 and v2), computed by torchvision.

Both sample the input at each kernel position moved by an offset, y before x, with 0 outside of the
image; v2 also scales each sample by a mask and adds a bias. Tensors are named as in
``mmcv.ops.deform_conv`` and ``mmcv.ops.modulated_deform_conv``, which pass what they read as
``geometry``. ``im2col_step`` of v1 changes no value.
"""

from functools import reduce, wraps
from typing import Any, NamedTuple

import torch
import torchvision  # noqa: F401
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_GEOMETRY_V1 = ("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
_GEOMETRY_V2 = (
    "stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w", "group",
    "deformable_group",
)  # fmt: skip
"""mmcv's names of the integers that torchvision's operator takes, in its order."""

_weight_gradients: Any = WeakTensorKeyDictionary()
"""Gradients of v1's weight by the gradient of the output.

mmcv asks for the gradients of input and weight in two calls, and torchvision computes them in one.
"""


def accept_any_batch() -> None:
    """Make mmcv's convolution v1 accept any number of images.

    mmcv refuses more than ``im2col_step`` images (32) unless it divides their number, because its
    own kernels compute that number at once. Here the largest divisor up to it takes its place.
    """
    from mmcv.ops.deform_conv import DeformConv2dFunction

    forward = DeformConv2dFunction.forward

    @wraps(forward)
    def of_any_batch(
        ctx: Any,
        input: Tensor,
        offset: Tensor,
        weight: Tensor,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
    ) -> Tensor:
        step = next(step for step in range(im2col_step, 0, -1) if len(input) % step == 0)
        geometry = stride, padding, dilation, groups, deform_groups
        output: Tensor = forward(ctx, input, offset, weight, *geometry, bias, step)
        return output

    DeformConv2dFunction.forward = staticmethod(of_any_batch)


def common_float(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in the widest dtype among them, at least float32.

    torchvision's kernels need one dtype, and some do not support half. Mixed precision passes both.
    """
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return tuple(tensor.to(dtype) for tensor in tensors)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Write the convolution v1 of input (B, C, H, W) by weight (D, C/group, kH, kW) to output.

    ``offset`` (B, 2*deformable_group*kH*kW, h, w), in pixels; ``output`` (B, D, h, w).
    """
    mask, bias = _plain_mask(input), _zero_bias(weight)
    _forward(_Operands(input, weight, offset, mask, bias), output, _in_order(geometry), False)


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Write the gradients of the input and of the offset of ``deform_conv_forward``."""
    operands = _Operands(input, weight, offset, _plain_mask(input), _zero_bias(weight))
    gradients = _backward(operands, grad_output, _in_order(geometry), False)
    grad_input.copy_(gradients.input)
    grad_offset.copy_(gradients.offset)
    _weight_gradients[grad_output] = gradients.weight


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1.0,
    **geometry: int,
) -> None:
    """Write ``scale`` times the gradient of the weight of ``deform_conv_forward``."""
    gradient = _weight_gradients.pop(grad_output, None)
    if gradient is None:
        # The gradient of the weight does not depend on its values.
        operands = _Operands(
            input, grad_weight, offset, _plain_mask(input), _zero_bias(grad_weight)
        )
        gradient = _backward(operands, grad_output, _in_order(geometry), False).weight
    grad_weight.copy_(scale * gradient)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool = False,
    **geometry: int,
) -> None:
    """Write the convolution v2 of input (B, C, H, W) by weight (D, C/group, kH, kW) to output.

    ``offset`` (B, 2*deformable_group*kH*kW, h, w), in pixels; ``mask`` has half as many channels;
    ``bias`` (D,), read with ``with_bias``; ``output`` (B, D, h, w).
    """
    bias = bias if with_bias else _zero_bias(weight)
    _forward(_Operands(input, weight, offset, mask, bias), output, _in_order(geometry), True)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool = False,
    **geometry: int,
) -> None:
    """Write the gradients of ``modulated_deform_conv_forward``."""
    bias = bias if with_bias else _zero_bias(weight)
    operands = _Operands(input, weight, offset, mask, bias)
    gradients = _backward(operands, grad_output, _in_order(geometry), True)
    grad_input.copy_(gradients.input)
    grad_weight.copy_(gradients.weight)
    grad_offset.copy_(gradients.offset)
    grad_mask.copy_(gradients.mask)
    if with_bias:
        grad_bias.copy_(gradients.bias)


class _Operands(NamedTuple):
    """Operands of torchvision's convolution, or their gradients, in its order."""

    input: Tensor
    weight: Tensor
    offset: Tensor
    mask: Tensor
    bias: Tensor


def _forward(operands: _Operands, output: Tensor, geometry: list[int], modulated: bool) -> None:
    if not output.numel():
        return
    wide = common_float(*operands)
    output.copy_(torch.ops.torchvision.deform_conv2d(*wide, *geometry, modulated))


def _backward(
    operands: _Operands, grad_output: Tensor, geometry: list[int], modulated: bool
) -> _Operands:
    """Return the gradients of all operands."""
    if not grad_output.numel():
        return _Operands(*map(torch.zeros_like, operands))
    gradient, *wide = common_float(grad_output, *operands)
    return _Operands(
        *torch.ops.torchvision._deform_conv2d_backward(gradient, *wide, *geometry, modulated)
    )


def _in_order(geometry: dict[str, int]) -> list[int]:
    names = _GEOMETRY_V1 if "dH" in geometry else _GEOMETRY_V2
    return [geometry[name] for name in names]


def _plain_mask(input: Tensor) -> Tensor:
    """Return the mask that torchvision takes where it is not modulated."""
    return input.new_zeros(len(input), 1)


def _zero_bias(weight: Tensor) -> Tensor:
    return weight.new_zeros(len(weight))
