"""Operations of mmcv and mmdet in a form that ONNX has, for every batch and size."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest import mock

import torch
import torchvision  # noqa: F401, registers its operators
from torch import Tensor
from torch.nn.modules.utils import _pair
from torch.onnx import register_custom_op_symbolic, unregister_custom_op_symbolic
from torch.onnx.symbolic_helper import parse_args

OPSET = 20
"""Version of the ONNX operators: the newest that torch's tracing exporter writes."""
_DEFORM_CONV = "torchvision::deform_conv2d"
_FIRST_OPSET = 19
"""Version of the ONNX operators that has DeformConv."""


@contextmanager
def portable_operators() -> Iterator[None]:
    """Replace operations that a trace would bind to the size of its example, in a block.

    Deformable convolutions are computed by torchvision; ``torch.onnx.export`` writes them as ONNX's
    DeformConv.
    """
    plain, modulated = (
        import_module(f"mmcv.ops.{name}") for name in ("deform_conv", "modulated_deform_conv")
    )
    tood = import_module("mmdet.models.dense_heads.tood_head")
    rtmdet = import_module("mmdet.models.dense_heads.rtmdet_head")
    swin = import_module("mmdet.models.backbones.swin")
    replaced: tuple[tuple[Any, str, Any], ...] = (
        (plain, "deform_conv2d", _deform_conv),
        (plain.DeformConv2d, "forward", _forward),
        (modulated, "modulated_deform_conv2d", _modulated_deform_conv),
        (tood, "deform_conv2d", _deform_conv),
        (tood, "distance2bbox", _boxes_of_distances),
        (tood, "sigmoid_geometric_mean", _sigmoid_geometric_mean),
        (rtmdet, "sigmoid_geometric_mean", _sigmoid_geometric_mean),
        (swin.ShiftWindowMSA, "window_reverse", _joined_windows),
    )
    register_custom_op_symbolic(_DEFORM_CONV, _onnx_deform_conv, _FIRST_OPSET)
    try:
        with ExitStack() as stack:
            for owner, name, function in replaced:
                stack.enter_context(mock.patch.object(owner, name, function))
            yield
    finally:
        unregister_custom_op_symbolic(_DEFORM_CONV, _FIRST_OPSET)


def _deform_conv(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    offset_groups: int = 1,
    *_: Any,
) -> Tensor:
    """Return mmcv's ``deform_conv2d``."""
    geometry = stride, padding, dilation, groups, offset_groups
    return _convolved(
        input, offset, input.new_zeros(input.shape[0], 1), weight, None, geometry, False
    )


def _forward(layer: Any, input: Tensor, offset: Tensor) -> Tensor:
    """Return the output of mmcv's ``DeformConv2d`` without its branch for maps below the kernel."""
    geometry = layer.stride, layer.padding, layer.dilation, layer.groups, layer.deform_groups
    return _deform_conv(input, offset, layer.weight, *geometry)


def _modulated_deform_conv(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    offset_groups: int = 1,
) -> Tensor:
    """Return mmcv's ``modulated_deform_conv2d``."""
    geometry = stride, padding, dilation, groups, offset_groups
    return _convolved(input, offset, mask, weight, bias, geometry, True)


def _convolved(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: tuple[Any, ...],
    uses_mask: bool,
) -> Tensor:
    """Return torchvision's convolution; a trace holds numbers of channels as tensors."""
    *pairs, groups, offset_groups = geometry
    numbers = [int(side) for pair in pairs for side in _pair(pair)]
    bias = input.new_zeros(weight.shape[0]) if bias is None else bias
    output: Tensor = torch.ops.torchvision.deform_conv2d(
        input, weight, offset, mask, bias, *numbers, int(groups), int(offset_groups), uses_mask
    )
    return output


def _boxes_of_distances(points: Tensor, distances: Tensor) -> Tensor:
    """Return mmdet's ``distance2bbox`` (N, 4), where a trace repeats the points for one image."""
    distances = distances.reshape(-1, points.shape[0], 4)
    boxes = torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)
    return boxes.reshape(-1, 4)


def _sigmoid_geometric_mean(first: Tensor, second: Tensor) -> Tensor:
    """Return mmdet's function of this name, whose class TorchScript cannot save."""
    return (first.sigmoid() * second.sigmoid()).sqrt()


def _joined_windows(layer: Any, windows: Tensor, height: Any, width: Any) -> Tensor:
    """Return maps (B, H, W, C) of a Swin Transformer's windows, in a trace for any batch."""
    side, channels = layer.window_size, windows.shape[-1]
    windows = windows.reshape(-1, height // side, width // side, side, side, channels)
    return windows.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, channels)


@parse_args("v", "v", "v", "v", "v", "i", "i", "i", "i", "i", "i", "i", "i", "b")
def _onnx_deform_conv(
    g: Any,
    input: Any,
    weight: Any,
    offset: Any,
    mask: Any,
    bias: Any,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Any:
    operands = [input, weight, offset, bias, *([mask] if use_mask else [])]
    return g.op(
        "DeformConv",
        *operands,
        dilations_i=[dilation_h, dilation_w],
        group_i=groups,
        offset_group_i=offset_groups,
        pads_i=[pad_h, pad_w, pad_h, pad_w],
        strides_i=[stride_h, stride_w],
    )
