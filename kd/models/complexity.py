"""Size and compute of a detector, counted without its weights."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import kd.models.mmdet_setup  # noqa: F401
from kd.models.build import build_model

from mmdet.structures import DetDataSample  # isort: skip, after kd.models.mmdet_setup


class Complexity(NamedTuple):
    """Counts of a detector."""

    parameters: int
    """Weights of layers, frozen ones included; running means are not among them."""
    multiply_adds: int
    """Multiply-adds of convolutions and matrix products for one image; RoIAlign, the samples of
    deformable convolutions, normalization, decoding and NMS are not counted."""
    weight_bytes: int
    """Bytes of parameters and buffers, which the checkpoint holds."""


def complexity(model: dict[str, Any], width: int, height: int) -> Complexity:
    """Return the counts of mmdet's detector for one image, padded as the detector pads it.

    ``width`` and ``height`` in pixels. The heads of a two-stage detector run on as many proposals
    as its RPN outputs at most. The network has shapes but no values ("meta" tensors), so this takes
    no memory and no time that depends on the image. Only transformers are run on the CPU.
    """
    # A transformer reads values of its tensors, such as the sizes of its maps.
    device = "cpu" if "encoder" in model else "meta"
    with torch.device(device):
        # torch.Tensor(n), with which SSD makes a parameter, ignores the device of the context.
        detector = build_model(model).to(device).eval()
        image = torch.zeros(1, 3, *_padded(model, height, width))
    with torch.no_grad(), counter() as counts:
        _forward(detector, image)
    state = detector.state_dict().values()
    return Complexity(
        parameters=sum(parameter.numel() for parameter in detector.parameters()),
        multiply_adds=counts.get_total_flops() // 2,  # torch counts both operations
        weight_bytes=sum(tensor.numel() * tensor.element_size() for tensor in state),
    )


def counter() -> FlopCounterMode:
    """Return torch's counter, which also counts deformable convolutions."""
    return FlopCounterMode(
        display=False, custom_mapping={torch.ops.torchvision.deform_conv2d: _deform_conv_flops}
    )


def _deform_conv_flops(
    images: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any
) -> int:
    """Return the operations of a convolution of that output, two for a multiply-add."""
    return 2 * prod(out_shape) * prod(weight[1:])


def _padded(model: dict[str, Any], *sides: int) -> list[int]:
    divisor = model["data_preprocessor"].get("pad_size_divisor", 1)
    return [-(-side // divisor) * divisor for side in sides]


def _forward(detector: Any, image: Tensor) -> None:
    """Run all layers that an image passes in a test."""
    if hasattr(detector, "encoder"):
        size = {"img_shape": image.shape[2:], "batch_input_shape": image.shape[2:]}
        detector(image, [DetDataSample(metainfo=size)])
        return
    levels = detector.extract_feat(image)
    if not hasattr(detector, "rpn_head"):
        detector.bbox_head(levels)
        return
    detector.rpn_head(levels)
    proposals = detector.test_cfg["rpn"]["max_per_img"]
    for extractor, head in _stages(detector.roi_head):
        size = extractor.roi_layers[0].output_size
        head(image.new_empty(proposals, extractor.out_channels, *size))


def _stages(roi_head: Any) -> Sequence[tuple[Any, Any]]:
    """Return extractor and head of the only stage, or of each stage of a cascade."""
    extractor, head = roi_head.bbox_roi_extractor, roi_head.bbox_head
    if isinstance(head, nn.ModuleList):
        return list(zip(extractor, head, strict=True))
    return [(extractor, head)]
