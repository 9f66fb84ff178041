"""Backbones of any width, built only up to their last output map.

mmdet's backbones build layers after the last output map as well. Those layers get no gradient,
which DistributedDataParallel refuses.
"""

from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.models import backbones
from mmdet.registry import MODELS
from mmengine.model import BaseModule, trunc_normal_init
from torch import Tensor, nn


class _Truncated:
    """Mixin of mmdet's ResNets: no stages after the last output map, and offsets that begin at 0.

    The offsets of deformable convolutions are 0 at first, as in their paper. mmdet draws them where
    a backbone starts from random weights.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _drop_unused(self, self.res_layers)  # type: ignore[attr-defined]

    def init_weights(self) -> None:
        super().init_weights()  # type: ignore[misc]
        for module in self.modules():  # type: ignore[attr-defined]
            if hasattr(module, "conv_offset"):
                nn.init.zeros_(module.conv_offset.weight)
                nn.init.zeros_(module.conv_offset.bias)


@MODELS.register_module()
class TruncatedResNet(_Truncated, backbones.ResNet):
    """mmdet's ResNet without the stages after its last output map."""


@MODELS.register_module()
class TruncatedResNeXt(_Truncated, backbones.ResNeXt):
    """mmdet's ResNeXt without the stages after its last output map."""


@MODELS.register_module()
class TruncatedSwinTransformer(backbones.SwinTransformer):
    """mmdet's Swin Transformer without the stages and normalizations that the neck does not read.

    ``unread_maps``: number of leading maps that the neck does not read. They are normalized without
    weights, which would get no gradient. Their state dict is that of mmdet's configurations, which
    leave these maps out.
    """

    def __init__(self, unread_maps: int = 0, **kwargs: Any) -> None:
        with torch.device("cpu"):  # mmdet reads values of a tensor, which those of "meta" lack
            super().__init__(**kwargs)
        last = max(self.out_indices)
        self.stages: Any = self.stages[: last + 1]
        self.stages[last].downsample = None
        for index in self.out_indices[:unread_maps]:
            width = self.num_features[index]
            setattr(self, f"norm{index}", nn.LayerNorm(width, elementwise_affine=False))

    @property
    def beyond_imagenet(self) -> tuple[str, ...]:
        """Normalizations of the maps, which a classifier lacks."""
        return tuple(f"norm{index}." for index in self.out_indices)

    def init_weights(self) -> None:
        """Initialize from ``init_cfg``, which mmdet's reads in another form, or at random."""
        if self.init_cfg is not None:
            BaseModule.init_weights(self)
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_init(module, std=0.02)


@MODELS.register_module()
class TruncatedMobileNetV2(backbones.MobileNetV2):
    """mmdet's MobileNetV2 without the layers after its last output map, as its last convolution."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _drop_unused(self, self.layers)


@MODELS.register_module()
class ScalableDarknet(backbones.Darknet):
    """mmdet's Darknet at any width, without the stages after its last output map.

    Its maps have 2, 4, 8, 16 and 32 times ``base_channels`` channels.
    """

    def __init__(self, depth: int = 53, base_channels: int = 32, **kwargs: Any) -> None:
        layers, stages = backbones.Darknet.arch_settings[depth]
        widths = [tuple(width * base_channels // 32 for width in stage) for stage in stages]
        self.arch_settings = {depth: (layers, widths)}
        super().__init__(depth=depth, **kwargs)
        names = ("conv_cfg", "norm_cfg", "act_cfg")
        style = {name: kwargs[name] for name in names if name in kwargs}
        style = {"norm_cfg": {"type": "BN"}, "act_cfg": LEAKY} | style
        # mmdet's first convolution has 32 channels whatever arch_settings are.
        self.conv1 = ConvModule(3, base_channels, 3, padding=1, **style)
        _drop_unused(self, self.cr_blocks)


class _TruncatedCSP:
    """Mixin of a backbone of cross-stage partial blocks: it has no stages after its last map."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _drop_unused(self, self.layers)  # type: ignore[attr-defined]


@MODELS.register_module()
class TruncatedCSPNeXt(_TruncatedCSP, backbones.CSPNeXt):
    """mmdet's CSPNeXt without the stages after its last output map."""


@MODELS.register_module()
class TruncatedCSPDarknet(_TruncatedCSP, backbones.CSPDarknet):
    """mmdet's CSPDarknet without the stages after its last output map."""


LEAKY = {"type": "LeakyReLU", "negative_slope": 0.1}
"""Default activation of mmdet's Darknet."""


def _drop_unused(backbone: Any, layers: list[str]) -> None:
    """Remove the layers, named in order, after the last one whose output is a map."""
    for name in layers[max(backbone.out_indices) + 1 :]:
        delattr(backbone, name)
        layers.remove(name)


@MODELS.register_module()
class VGG16(BaseModule):
    """VGG-16 (configuration D of the paper) as a list of layers, named as torchvision names them.

    ``out_indices``: indices of the ``features`` whose outputs are returned. Convolutions, each
    followed by its ReLU, are 0, 2; 5, 7; 10, 12, 14; 17, 19, 21; 24, 26, 28, and pools 4, 9, 16,
    23, 30; so 15, 22, 29 and 30 are conv3_3, conv4_3, conv5_3 and pool5 at strides 4, 8, 16 and 32.

    ``fully_convolutional``: SSD's network, whose pool5 keeps the size and is followed by a dilated
    fc6 (31) and fc7 (33, 34 after its ReLU, at stride 16) of 16 times ``base_channels``. Its names
    are those of mmdet's SSDVGG.
    """

    beyond_imagenet = ("features.31.", "features.33.")
    """Prefixes of the layers that no ImageNet weights have."""

    def __init__(
        self,
        base_channels: int = 64,
        out_indices: tuple[int, ...] = (15, 22, 29, 30),
        fully_convolutional: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg or {"type": "Kaiming", "layer": "Conv2d"})
        self.out_indices = out_indices
        layers: list[nn.Module] = []
        width = 3
        for convolutions, factor in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
            for _ in range(convolutions):
                layers += _convolution(width, factor * base_channels, 3, padding=1)
                width = factor * base_channels
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        if fully_convolutional:
            layers[-1] = nn.MaxPool2d(3, 1, padding=1)
            layers += _convolution(width, 16 * base_channels, 3, padding=6, dilation=6)
            layers += _convolution(16 * base_channels, 16 * base_channels, 1)
        self.features = nn.Sequential(*layers[: max(out_indices) + 1])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of ``out_indices``, each (B, C, H, W)."""
        maps = []
        for index, layer in enumerate(self.features):
            images = layer(images)
            if index in self.out_indices:
                maps.append(images)
        return tuple(maps)


def _convolution(
    inputs: int, outputs: int, size: int, padding: int = 0, dilation: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, padding=padding, dilation=dilation)
    return [convolution, nn.ReLU(inplace=True)]
