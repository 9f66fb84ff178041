"""Classifiers of torchvision and timm as models that mmengine trains."""

from collections.abc import Callable
from typing import Any

import torch
import torchvision
from mmdet.registry import MODELS
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from kd.common.errors import UserError, suggest
from kd.models import imagenet
from kd.models.weights import read_state

MOST_CHARACTERS = 200
"""Characters of the list of valid names of timm, which has a thousand."""
AUXILIARY = {"googlenet", "inception_v3"}
"""Architectures with auxiliary heads, which no loss here would train."""


@MODELS.register_module()
class ObjectClassifier(BaseModel):
    """Classifier of objects of ``size`` x ``size`` pixels; ``network`` is torchvision's or timm's.

    ``loss``: the names of LOSSES to add, joined by ``+``; ``mean``, ``std``: of RGB from 0 to 255;
    ``init``: ``imagenet`` or ``scratch``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        architecture: str,
        classes: int,
        size: int,
        loss: str,
        init: str,
        mean: list[float],
        std: list[float],
    ) -> None:
        super().__init__()
        self.architecture, self.classes, self.size, self.init = architecture, classes, size, init
        self.loss_names = loss.split("+")
        self.network = build(architecture, classes, size)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def init_weights(self) -> None:
        """Load ImageNet's weights if ``init`` is ``imagenet``; random ones are drawn already."""
        if self.init == "imagenet":
            load_imagenet(self.network, self.architecture)

    def forward(self, inputs: Tensor, labels: Tensor | None = None, mode: str = "tensor") -> Any:
        """Return losses by name in mode ``loss``, else logits (B, C).

        ``inputs``: (B, 3, size, size), RGB from 0 to 255.
        """
        logits = self.network((inputs - self.mean[:, None, None]) / self.std[:, None, None])
        if mode != "loss":
            return logits
        assert labels is not None
        return {f"loss_{name}": LOSSES[name](logits, labels) for name in self.loss_names}


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sigmoid focal loss, summed over classes and averaged over crops.

    ``logits``: (B, C); ``labels``: (B,). Lin et al. 2017 with their alpha 0.25 and gamma 2.
    """
    targets = F.one_hot(labels, logits.shape[1]).to(logits)
    return sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2).sum(1).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]]
LOSSES = {"cross_entropy": F.cross_entropy, "focal": focal_loss}


def build(architecture: str, classes: int, size: int) -> nn.Module:
    """Return a classifier of torchvision or timm with random weights; UserError if it has none.

    ``size``: side of the images in pixels.
    """
    if architecture.startswith(imagenet.TIMM):
        return _build_timm(architecture, classes, size)
    architectures = {*torchvision.models.list_models(module=torchvision.models)} - AUXILIARY
    if architecture not in architectures:
        hint = suggest(architecture, architectures)
        raise UserError(f"torchvision has no classifier '{architecture}'; {hint}")
    return torchvision.models.get_model(architecture, weights=None, num_classes=classes)


def _build_timm(architecture: str, classes: int, size: int) -> nn.Module:
    import timm

    name = architecture.removeprefix(imagenet.TIMM)
    if not timm.is_model(name):
        hint = suggest(name.partition(".")[0], timm.list_models())
        raise UserError(f"timm has no classifier '{name}'; {hint[:MOST_CHARACTERS]}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, size, size))
    except Exception as error:  # each network has other errors
        raise UserError(
            f"{architecture} does not accept images of {size} x {size} pixels ({error}); set "
            "'size' in the classifier's file"
        ) from None
    return network.train()


def load_imagenet(network: nn.Module, architecture: str) -> None:
    """Load ImageNet's weights into all layers but the last.

    They are not fitted to another standard deviation, because batch normalization adapts to it.
    """
    state = read_state(imagenet.find(architecture))
    random = network.state_dict()
    last = [key for key in random if key in state and random[key].shape != state[key].shape]
    try:
        network.load_state_dict({**state, **{key: random[key] for key in last}})
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"ImageNet weights do not fit {architecture}: {reason}") from None
