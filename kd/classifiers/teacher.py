"""Frozen classifier teacher with gradients to its crops."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models import ResNet

from kd.classifiers import strided
from kd.common.errors import UserError
from kd.models.weights import load_strictly

LAYOUT = torch.channels_last


class ClassifierTeacher(nn.Module):
    """Logits and early maps of a trained classifier, for crops in its normalization.

    ``config``: ``model`` of its composed configuration; ``checkpoint``: its weights. Parameters get
    no gradient and batch statistics never change; gradients flow into the crops.
    ``size``: side of its crops in pixels; ``mean`` and ``std`` (3,): of RGB from 0 to 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: dict[str, Any], checkpoint: str | Path) -> None:
        super().__init__()
        classifier = MODELS.build(dict(config))
        load_strictly(classifier, Path(checkpoint))
        self.name, self.classes = config["architecture"], classifier.classes
        self.size = classifier.size
        # On a CPU, pooling and normalization take half of the time in this layout.
        self.network = classifier.network.requires_grad_(False).to(memory_format=LAYOUT)
        self.register_buffer("mean", classifier.mean, persistent=False)
        self.register_buffer("std", classifier.std, persistent=False)
        self._stages = _stages(self.network, self.size)
        self.train(False)

    def train(self, mode: bool = True) -> "ClassifierTeacher":
        """Stay in eval mode, whatever ``mode`` is."""
        return super().train(False)

    def normalized(self, crops: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return crops (P, 3, s, s), normalized by ``mean`` and ``std`` (3,), in its normalization.

        Crops are RGB, and both statistics are of values from 0 to 255.
        """
        scale, shift = std / self.std, (mean - self.mean) / self.std
        return crops * scale[:, None, None] + shift[:, None, None]

    def logits(self, crops: Tensor) -> Tensor:
        """Return logits (P, C) of crops (P, 3, size, size)."""
        return self.network(crops.contiguous(memory_format=LAYOUT))

    def stages(self, crops: Tensor, last: int) -> list[Tensor]:
        """Return maps 0 to ``last`` of crops (P, 3, s, s); deeper layers are not computed.

        In a ResNet of torchvision, map 0 is the stem after its pooling, and maps 1 to 4 are its
        layers. In a network with ``features``, maps are the last ones at each resolution. In a
        network of timm, maps are those of its ``forward_intermediates``.
        """
        intermediates = getattr(self.network, "forward_intermediates", None)
        count = len(self.network.feature_info) if intermediates else len(self._stages)
        if last >= count:
            stages = f"0 to {count - 1}" if count else "none"
            raise UserError(
                f"classifier {self.name}: no stage {last} ('stages' of the method); valid: {stages}"
            )
        maps = [crops.contiguous(memory_format=LAYOUT)]
        if intermediates:
            intermediate_maps: list[Tensor] = intermediates(
                maps[0],
                indices=list(range(last + 1)),
                stop_early=True,
                output_fmt="NCHW",
                intermediates_only=True,
            )
            return intermediate_maps
        for stage in self._stages[: last + 1]:
            maps.append(stage(maps[-1]))
        return maps[1:]


def _stages(network: nn.Module, size: int) -> list[Callable[[Tensor], Tensor]]:
    """Return the parts of a network, to be applied in turn, whose outputs are its stages."""
    if isinstance(network, ResNet):
        stem = partial(_stem, network)
        return [stem, network.layer1, network.layer2, network.layer3, network.layer4]
    features = getattr(network, "features", None)
    return _by_resolution(features, size) if isinstance(features, nn.Sequential) else []


def _stem(network: ResNet, crops: Tensor) -> Tensor:
    """Return a frozen ResNet's map after its first pooling.

    The normalization is folded into the convolution. ReLU and max pooling commute, so the ReLU
    runs after the pooling, on a quarter of the values.
    """
    conv, norm = network.conv1, network.bn1
    weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    maps = strided.conv2d(crops, weight, bias, conv.stride[0], conv.padding[0])
    return network.maxpool(maps).relu()


@torch.no_grad()
def _by_resolution(features: nn.Sequential, size: int) -> list[Callable[[Tensor], Tensor]]:
    """Return the layers grouped into stages; a stage begins where the resolution decreases."""
    features.eval()
    stages: list[list[nn.Module]] = []
    maps = torch.zeros(1, 3, size, size)
    for layer in features:
        side, maps = maps.shape[-1], layer(maps)
        if not stages or maps.shape[-1] < side:
            stages.append([])
        stages[-1].append(layer)
    return [nn.Sequential(*layers) for layers in stages]
