"""ImageNet weights: torchvision's tensors in mmdet's backbones, or their leading channels."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from kd.common import fetch
from kd.common.errors import UserError
from kd.models import imagenet

torch.set_num_threads(1)

NETWORKS = {"r18": "resnet18", "mbv2": "mobilenet_v2", "vgg16": "vgg16", "swin-t": "swin_t"}
SIDES = {"swin-t": 256}
"""Sides of images in pixels. torchvision's Swin shifts no window that covers the whole map."""


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nn.Module]:
    """Return torchvision's networks with random weights and statistics, in eval mode."""
    torch.manual_seed(0)
    networks = {
        name: getattr(torchvision.models, name)().eval()
        for name in ("resnet18", "mobilenet_v2", "swin_t")
    }
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    # Without the classifier's 120 million weights, and with maps that do not fade.
    networks["vgg16"] = nn.ModuleDict({"features": layers, "classifier": nn.Linear(2, 2)})
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    for network in networks.values():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, nn.LayerNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.bias) if module.bias is not None else None
            if hasattr(module, "relative_position_bias_table"):
                nn.init.normal_(module.relative_position_bias_table)
    return networks


@pytest.fixture(scope="module")
def files(networks: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the networks' files, named after their digests as a hub's are."""
    folder = tmp_path_factory.mktemp("hub") / "checkpoints"
    folder.mkdir()
    for name, network in networks.items():
        torch.save(network.state_dict(), folder / "new.pth")
        digest = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
        (folder / "new.pth").rename(folder / f"{name}-{digest}.pth")
    return folder


@pytest.fixture
def initialized(
    build: Callable[..., Any], files: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., nn.Module]:
    """Return a function that returns a detector's backbone, initialized from the files."""

    def find(name: str) -> Path:
        (path,) = files.glob(f"{name.partition('/')[0]}-*.pth")
        return path

    def backbone(name: str, detector: str = "retinanet") -> nn.Module:
        return build(detector, backbone=name, init="imagenet").eval().backbone

    monkeypatch.setattr(imagenet, "find", find)
    return backbone


def stages(network: nn.Module, image: Tensor) -> list[Tensor]:
    """Return the maps of torchvision's network that mmdet's backbone returns."""
    if isinstance(network, torchvision.models.MobileNetV2):
        maps = [image]
        for layer in network.features[:18]:
            maps.append(layer(maps[-1]))
        return [maps[i + 1] for i in (3, 6, 13, 17)]
    if isinstance(network, nn.ModuleDict):
        maps = [image]
        for layer in network["features"]:
            maps.append(layer(maps[-1]).clone())  # the next layer may write into it
        return [maps[i + 1] for i in (15, 22, 29, 30)]
    if isinstance(network, torchvision.models.SwinTransformer):
        maps = []
        for index, layer in enumerate(network.features):
            image = layer(image)
            if index % 2:  # a stage; the layers between merge patches
                maps.append(functional.layer_norm(image, image.shape[-1:]).permute(0, 3, 1, 2))
        return maps
    features = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    maps = []
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        features = layer(features)
        maps.append(features)
    return maps


def body(network: nn.Module) -> list[Tensor]:
    """Return a network's tensors without its classifier and MobileNet's convolution before it."""
    beyond = ("fc.", "classifier.", "features.18.")
    return [v for k, v in network.state_dict().items() if not k.startswith(beyond)]


# --- Pairing -------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", NETWORKS)
def test_a_backbone_has_the_maps_of_torchvisions_network(initialized, networks, backbone):
    side = SIDES.get(backbone, 64)
    image = torch.randn(2, 3, side, side + 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = initialized(backbone)(image)
        expected = stages(networks[NETWORKS[backbone]], image)
    for ours, theirs in zip(maps, expected, strict=True):
        assert theirs.std() > 0.1
        torch.testing.assert_close(ours, theirs)


def test_every_tensor_of_a_mobile_net_is_loaded(initialized, networks):
    """Unless prevented, mmengine initializes MobileNet's first and last layer once more."""
    state = initialized("mbv2").state_dict()
    for ours, theirs in zip(state.values(), body(networks["mobilenet_v2"]), strict=True):
        assert torch.equal(ours, theirs)


def test_every_tensor_of_a_vgg_but_fc6_and_fc7_is_loaded(initialized, networks):
    state = initialized("vgg16-fc7", "ssd300").state_dict()
    paired = list(state.values())[2:-4]  # the first layer is fitted to the images
    for ours, theirs in zip(paired, body(networks["vgg16"])[2:], strict=True):
        assert torch.equal(ours, theirs)
    assert list(state)[-4::2] == ["features.31.weight", "features.33.weight"]
    for name in ("features.31.weight", "features.33.weight"):
        limit = state[name][0].numel() ** -0.5  # torch's default initialization
        assert state[name].abs().max() <= limit
        assert state[name].std() > limit / 2


@pytest.mark.parametrize(
    ("backbone", "width"),
    [("r18-w0.5", 0.5), ("r18-w0.125", 0.125), ("mbv2-w0.5", 0.5), ("vgg16-w0.25", 0.25)],
)
def test_a_narrow_backbone_has_the_leading_channels(initialized, networks, backbone, width):
    source = body(networks[NETWORKS[backbone.split("-")[0]]])
    tensors = list(initialized(backbone).state_dict().values())
    narrower = 0
    for ours, theirs in zip(tensors, source, strict=True):
        block = theirs[tuple(slice(size) for size in ours.shape)]
        assert torch.equal(ours, block)
        narrower += ours.numel() < theirs.numel()
    assert narrower > len(tensors) // 2
    assert len(tensors[0]) == width * len(source[0])


def test_a_backbone_too_wide_is_refused(initialized):
    with pytest.raises(
        UserError, match=r"weights of shape \(64, .*smaller than a layer of shape \(128, "
    ):
        initialized("r18-w2")


def test_a_backbone_of_more_layers_than_the_weights_is_refused(initialized, files, monkeypatch):
    (path,) = files.glob("resnet18-*.pth")
    monkeypatch.setattr(imagenet, "find", lambda name: path)
    with pytest.raises(
        UserError, match="weights of resnet34 have 100 tensors and the backbone has 180"
    ):
        initialized("r34")


STANDARD = Tensor([123.675, 116.28, 103.53]), Tensor([58.395, 57.12, 57.375])
CAFFE = Tensor([0.48235, 0.45882, 0.40784]) * 255, torch.ones(3)
ONLY_MEAN = STANDARD[0], torch.ones(3)
NEITHER = torch.zeros(3), Tensor([255.0] * 3)


def normalized(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def first_layer(tensors: list[Tensor], image: Tensor) -> Tensor:
    """Return a convolution of the image, away from its border, and its bias or minus its mean."""
    shift = tensors[1] if tensors[2].ndim == 4 else -tensors[3]
    return torch.nn.functional.conv2d(image, tensors[0]) + shift.view(-1, 1, 1)


@pytest.mark.parametrize(
    ("detector", "backbone", "here", "there"),
    [
        ("ssd300", "r18", ONLY_MEAN, STANDARD),
        ("yolov3", "r18", NEITHER, STANDARD),
        ("yolov3", "mbv2", NEITHER, STANDARD),
        ("yolov3", "vgg16", NEITHER, STANDARD),
        ("ssd300", "vgg16-fc7", ONLY_MEAN, CAFFE),
        ("retinanet", "vgg16-fc7", STANDARD, CAFFE),
    ],
)
def test_the_first_layer_is_fitted_to_the_normalization_of_images(
    initialized, networks, detector, backbone, here, there
):
    pixels = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    source = body(networks[NETWORKS[backbone.split("-")[0]]])
    outputs = first_layer(
        list(initialized(backbone, detector).state_dict().values()), normalized(pixels, *here)
    )
    expected = first_layer(source, normalized(pixels, *there))
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-4 * expected.std())


def test_all_maps_are_the_same_if_only_the_deviation_differs(initialized, networks):
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        maps = initialized("r18", "ssd300")(normalized(pixels, *ONLY_MEAN))
        expected = stages(networks["resnet18"], normalized(pixels, *STANDARD))[1:3]
    for ours, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_leading_block_is_a_copy_of_the_same_rank():
    tensor = torch.arange(12.0).view(3, 4)
    block = imagenet.leading(tensor, torch.Size([2, 3]))
    assert block.tolist() == [[0, 1, 2], [4, 5, 6]]
    block.zero_()
    assert tensor.sum() == 66
    with pytest.raises(UserError):
        imagenet.leading(tensor, torch.Size([2]))


# --- The file ------------------------------------------------------------------------------


@pytest.fixture
def hub(files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """Return an empty hub cache without a package and a network, and resnet18's file."""
    (file,) = files.glob("resnet18-*.pth")
    weights = SimpleNamespace(url=f"https://hub/models/{file.name}")
    entries = SimpleNamespace(IMAGENET1K_V1=weights)
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: entries)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(imagenet, "PACKAGE", "no-such-package")

    def unreachable(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(imagenet, "download", unreachable)
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / file.name
    return SimpleNamespace(file=file, cached=cached, weights=weights)


def test_a_cached_file_is_used_without_a_download(hub):
    hub.cached.write_bytes(hub.file.read_bytes())
    assert imagenet.find("resnet18") == hub.cached


def test_a_damaged_cached_file_is_refused(hub):
    hub.cached.write_bytes(hub.file.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{hub.cached.name}: .*SHA-256.*delete it"):
        imagenet.find("resnet18")


def test_a_packages_file_is_used_if_the_cache_has_none(hub, monkeypatch):
    monkeypatch.setattr(imagenet, "_packaged", lambda file: hub.file.parent / file)
    assert imagenet.find("resnet18") == hub.file


def test_a_packages_file_is_found_in_its_weights_folder(hub, monkeypatch, tmp_path):
    (tmp_path / "offline_weights").mkdir()
    (tmp_path / "offline_weights/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imagenet, "PACKAGE", "offline-weights")
    assert imagenet._packaged("a.pth") == tmp_path / "offline_weights/weights/a.pth"


def test_a_download_goes_to_the_cache_and_is_checked(hub, monkeypatch, tmp_path):
    served = tmp_path / "server" / hub.file.name
    served.parent.mkdir()
    hub.weights.url = served.as_uri()
    monkeypatch.setattr(imagenet, "download", fetch.download)
    served.write_bytes(hub.file.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{hub.file.name}: the download does not have the SHA-256"):
        imagenet.find("resnet18")
    assert not list(hub.cached.parent.iterdir())
    served.write_bytes(hub.file.read_bytes())
    assert imagenet.find("resnet18") == hub.cached
    assert hub.cached.read_bytes() == hub.file.read_bytes()


def test_without_a_network_the_remedies_are_named(hub):
    with pytest.raises(UserError, match=r"cannot be reached.*put the file at .*init: scratch"):
        imagenet.find("resnet18")
    with pytest.raises(UserError, match=r"install no-such-package .*, or use 'init: scratch'"):
        imagenet.find("mobilenet_v2")


@pytest.mark.parametrize("name", ["resnet19", "vgg16/IMAGENET1K_V7"])
def test_unknown_weights_are_refused(name):
    with pytest.raises(UserError, match=name.rpartition("/")[2]):
        imagenet.find(name)
