"""DICOD: inputs are images, boxes, candidates and the weights of a narrow ResNet.

``images`` (B, 3, H, W); ``objects`` (G, 4): ground-truth boxes of all images, ``counts`` (B,) in
each; ``boxes`` (P, 4): predicted boxes of positive candidates, ``image`` and ``instance`` (P,):
their image and their object's index in the batch; ``logits`` (P, K); ``labels`` (G,); ``weights``:
of the classifier, ``shape`` (3,): its channels, classes and the side of its crops.
"""

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from kd.classifiers.teacher import LAYOUT, ClassifierTeacher, _stages
from kd.observers import Candidates
from tests.methods.published.golden_data import Port
from tests.methods.published.preset_losses import layer_shapes, preset_method, split_weights, total
from tests.methods.scenes import make_batch


class NarrowResNet(ResNet):
    """ResNet of torchvision with one block per layer and few channels."""

    def __init__(self, channels: int, classes: int) -> None:
        nn.Module.__init__(self)
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(channels, channels))
        self.layer2, self.layer3, self.layer4 = nn.Identity(), nn.Identity(), nn.Identity()
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, classes)
        self.double().eval().requires_grad_(False)


def narrow_resnet(weights: Tensor, channels: int, classes: int) -> NarrowResNet:
    """Return the network with the weights (n,) of its parameters, in the order of names."""
    network = NarrowResNet(channels, classes)
    parts = split_weights(weights, layer_shapes({"network": network}))
    state = {name.removeprefix("network."): part for name, part in parts.items()}
    network.load_state_dict(state, strict=False)
    return network


class NarrowTeacher(ClassifierTeacher):
    """Classifier teacher without a checkpoint file."""

    def __init__(self, network: NarrowResNet, side: int) -> None:
        nn.Module.__init__(self)
        self.name, self.size = "narrow", side
        self.network = network.to(memory_format=LAYOUT)
        self._stages = _stages(network, side)


def student_of(inputs: dict[str, Tensor], softmax: bool) -> SimpleNamespace:
    """Return an observation of candidates with their boxes and logits."""
    index = torch.arange(len(inputs["image"]))
    candidates = Candidates(inputs["image"], index, inputs["instance"])
    return SimpleNamespace(
        candidates=candidates,
        candidate_softmax=softmax,
        candidate_boxes=lambda selected: inputs["boxes"][selected.index],
        candidate_logits=lambda selected: inputs["logits"][selected.index],
    )


def terms(
    preset: str, settings: dict[str, Any], softmax: bool, inputs: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return ``cls``, the class term, and ``loc``, pixels and stages, which the code adds up."""
    counts = inputs["counts"].tolist()
    labels = list(inputs["labels"].split(counts))
    batch = make_batch(inputs["images"], list(inputs["objects"].split(counts)), labels)
    method = preset_method(preset, "ssd300", **settings)
    channels, classes, side = inputs["shape"].tolist()
    teacher = None
    if method.needs.teacher:
        teacher = NarrowTeacher(narrow_resnet(inputs["weights"], channels, classes), side)
    losses = method.model_copy(update={"crop_size": side}).losses(
        student_of(inputs, softmax), teacher, batch, nn.ModuleDict()
    )
    located = [total(losses[name]) for name in losses if name != "loss_dicod_cls"]
    values = {"loc": torch.stack(located).sum()} if located else {}
    if "loss_dicod_cls" in losses:
        values["cls"] = total(losses["loss_dicod_cls"])
    return values


CODE = {"count_empty_images": True}
PORTS: dict[str, Port] = {
    "dicod": partial(terms, "dicod", CODE, True),
    "dicod_cls": partial(terms, "dicod_cls", CODE, True),
    "dicod_cls_kl_bce": partial(terms, "dicod_cls", {**CODE, "sigmoid": "kl-bce"}, False),
    "dicod_cls_kl_ce": partial(terms, "dicod_cls", {**CODE, "sigmoid": "kl-ce"}, False),
    "dicod_loc": partial(terms, "dicod_loc", {}, True),
    "dicod_loc_kd": partial(terms, "dicod_loc_kd", {}, True),
    "dicod_l0": partial(terms, "dicod_l0", {}, True),
    "dicod_l0_l1": partial(terms, "dicod_l0_l1", {}, True),
}
