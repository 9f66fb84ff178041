"""Comparison of a network of mmdet's model zoo with a composed one, without weights."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kd.config.canonical import MMDET_CLASSES
from kd.models.build import build_model

SAME = {"CompleteSSDHead": "SSDHead", "SyncBatchNorm": "BatchNorm2d", "MaskRCNN": "FasterRCNN"}
"""Classes by those that predict alike and replace them in a comparison."""
TRAINING = ("loss", "Loss", "dropout", "drop_path", "batch_augments")
"""Parts of names of modules that predictions do not depend on."""
PARTS = ("prior_generator", "bbox_coder", "test_cfg")
"""Attributes of heads that predictions depend on."""
UNUSED = (
    *("input_size", "basesize_ratio_range", "current_epoch", "reg_decoded_bbox", "training"),
    "share_roi_extractor",
)
"""Settings that predictions do not depend on."""
MASK = "roi_head.mask_head."
"""Beginning of the weights of a mask branch, without which a Mask R-CNN is a Faster R-CNN."""


class _EmptyOnMeta(TorchFunctionMode):
    """Allocate no memory for parameters: ``torch.empty`` returns tensors without storage."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def built(model: dict[str, Any]) -> nn.Module:
    """Build a network whose parameters have shapes and no values."""
    with _EmptyOnMeta():
        return build_model(model)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a state dict, by name."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def predictions(network: nn.Module) -> dict[str, Any]:
    """Return everything but weights that the predictions of a network depend on, by name."""
    return dict(_described(network))


def losses(network: nn.Module) -> dict[str, Any]:
    """Return the losses and the assignment of labels of a network, without those of masks."""
    settings: dict[str, Any] = {}
    for name, module in network.named_modules():
        if "loss" in name.rpartition(".")[2] and not name.startswith(MASK):
            settings[name] = {"type": type(module).__name__, **_settings(module)}
    train_cfg = _plain(getattr(network, "train_cfg", None))
    return {**settings, "train_cfg": train_cfg}


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return the numbers, switches and names among the attributes of a module."""
    return {
        key: value
        for key, value in vars(module).items()
        if key[0] != "_" and key not in UNUSED and isinstance(value, bool | int | float | str)
    }


def _described(network: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, module in network.named_modules():
        kind = type(module).__name__
        kind = MMDET_CLASSES.get(kind, kind)
        kind = SAME.get(kind, kind)
        is_mask = name.startswith("roi_head.mask")
        is_vgg = name.startswith("backbone") and "VGG" in type(network.backbone).__name__
        if is_mask or is_vgg or any(part in name or part in kind for part in TRAINING):
            continue
        yield f"{name}.type", kind
        if name.endswith("head"):
            yield f"{name}.settings", _settings(module)
        elif name != "data_preprocessor" and not [*module.children()]:
            yield f"{name}.settings", module.extra_repr()
        for part in PARTS:
            if hasattr(module, part):
                yield f"{name}.{part}", _plain(getattr(module, part))
    images: Any = network.data_preprocessor
    yield "images.mean", _numbers(getattr(images, "mean", None)) or [0.0, 0.0, 0.0]
    yield "images.std", _numbers(getattr(images, "std", None)) or [1.0, 1.0, 1.0]
    yield "images.rgb", images._channel_conversion
    yield "images.divisor", images.pad_size_divisor


def _numbers(tensor: Tensor | None) -> list[float]:
    return [] if tensor is None else [round(number, 4) for number in tensor.flatten().tolist()]


def _plain(value: Any) -> Any:
    """Return an object's settings as plain data, with the name of its class."""
    if isinstance(value, Tensor):
        return _numbers(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if not key.startswith("mask")}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dict__"):
        settings = {
            key: _plain(item)
            for key, item in vars(value).items()
            if key[0] != "_" and key not in UNUSED
        }
        return {"type": type(value).__name__, **settings}
    return value
