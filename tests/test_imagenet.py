"""ImageNet weights: torchvision's network in mmdet's, or the leading channels of it."""

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

from kd import imagenet
from kd.errors import UserError

torch.set_num_threads(1)

NETWORKS = {"r18": "resnet18", "mbv2": "mobilenet_v2"}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nn.Module]:
    """torchvision's networks with random weights and statistics, in eval mode."""
    torch.manual_seed(0)
    made = {name: getattr(torchvision.models, name)().eval() for name in NETWORKS.values()}
    for network in made.values():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 1.5)
    return made


@pytest.fixture(scope="module")
def files(networks: dict[str, nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the networks' files, each named after its digest as a hub's are."""
    folder = tmp_path_factory.mktemp("hub") / "checkpoints"
    folder.mkdir()
    for name, network in networks.items():
        torch.save(network.state_dict(), folder / "new.pth")
        digest = hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
        (folder / "new.pth").rename(folder / f"{name}-{digest}.pth")
    return folder


@pytest.fixture
def initialised(
    build: Callable[..., Any], files: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], nn.Module]:
    """Return a backbone as a detector that starts from the files has it."""

    def find(name: str) -> Path:
        (path,) = files.glob(f"{name}-*.pth")
        return path

    monkeypatch.setattr(imagenet, "find", find)
    return lambda backbone: build(backbone=backbone, init="imagenet").eval().backbone


def stages(network: nn.Module, image: Tensor) -> list[Tensor]:
    """Return the maps of torchvision's network that mmdet's backbone hands over."""
    if isinstance(network, torchvision.models.MobileNetV2):
        maps = [image]
        for layer in network.features[:18]:
            maps.append(layer(maps[-1]))
        return [maps[i + 1] for i in (3, 6, 13, 17)]
    found = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    maps = []
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        found = layer(found)
        maps.append(found)
    return maps


# --- Pairing -------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", NETWORKS)
def test_a_backbone_computes_what_torchvisions_network_does(initialised, networks, backbone):
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = initialised(backbone)(image)
        wanted = stages(networks[NETWORKS[backbone]], image)
    for ours, theirs in zip(found, wanted, strict=True):
        assert theirs.std() > 0.1
        torch.testing.assert_close(ours, theirs)


def test_every_tensor_of_a_mobile_net_is_loaded(initialised, networks):
    """mmengine initialises MobileNet's first and last layer anew unless it is told not to."""
    wanted = {k: v for k, v in networks["mobilenet_v2"].state_dict().items() if "features" in k}
    found = initialised("mbv2").state_dict()
    for ours, theirs in zip(found.values(), wanted.values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("backbone", "width"), [("r18-w0.5", 0.5), ("r18-w0.125", 0.125), ("mbv2-w0.5", 0.5)]
)
def test_a_narrow_backbone_takes_the_leading_channels(initialised, networks, backbone, width):
    source = networks[NETWORKS[backbone.split("-")[0]]].state_dict()
    wanted = [v for k, v in source.items() if not k.startswith(("fc", "classifier"))]
    found = list(initialised(backbone).state_dict().values())
    narrower = 0
    for ours, theirs in zip(found, wanted, strict=True):
        block = theirs[tuple(slice(size) for size in ours.shape)]
        assert torch.equal(ours, block)
        narrower += ours.numel() < theirs.numel()
    assert narrower > len(found) // 2
    assert len(found[0]) == width * len(wanted[0])


def test_a_backbone_too_wide_is_refused(initialised):
    with pytest.raises(UserError, match=r"no block of shape \(128, .*in weights of shape \(64, "):
        initialised("r18-w2")


def test_a_backbone_of_more_layers_than_the_weights_is_refused(initialised, files, monkeypatch):
    (path,) = files.glob("resnet18-*.pth")
    monkeypatch.setattr(imagenet, "find", lambda name: path)
    with pytest.raises(UserError, match="weights of resnet34 list 100 tensors, the backbone 180"):
        initialised("r34")


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
    """An empty hub cache, no package with weights, no network, and resnet18's file."""
    (file,) = files.glob("resnet18-*.pth")
    weights = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=f"https://hub/models/{file.name}"))
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: weights)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(imagenet, "OFFLINE", "no_such_package")

    def unreachable(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    (tmp_path / "checkpoints").mkdir()
    return SimpleNamespace(file=file, cached=tmp_path / "checkpoints" / file.name)


def test_a_cached_file_is_taken_without_a_download(hub):
    hub.cached.write_bytes(hub.file.read_bytes())
    assert imagenet.find("resnet18") == hub.cached


def test_a_damaged_cached_file_is_refused(hub):
    hub.cached.write_bytes(hub.file.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{hub.cached.name}: .*digest.*delete it"):
        imagenet.find("resnet18")


def test_a_packages_file_is_taken_where_the_cache_has_none(hub, monkeypatch):
    monkeypatch.setattr(imagenet, "_packaged", lambda file: hub.file.parent / file)
    assert imagenet.find("resnet18") == hub.file


def test_a_packages_file_is_found_in_its_weights_folder(hub, monkeypatch, tmp_path):
    (tmp_path / "offline_weights").mkdir()
    (tmp_path / "offline_weights/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imagenet, "OFFLINE", "offline_weights")
    assert imagenet._packaged("a.pth") == tmp_path / "offline_weights/weights/a.pth"


def test_a_download_goes_to_the_cache_and_is_checked(hub, monkeypatch):
    asked = {}

    def download(url: str, **options: Any) -> None:
        asked.update(options, url=url)
        hub.cached.write_bytes(hub.file.read_bytes())

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    assert imagenet.find("resnet18") == hub.cached
    assert asked["url"].endswith(hub.file.name)
    assert asked["check_hash"]
    assert asked["weights_only"]


def test_without_a_network_the_remedies_are_named(hub):
    with pytest.raises(UserError, match=r"cannot be reached.*put the file at .*init: scratch"):
        imagenet.find("resnet18")


def test_an_unknown_model_is_refused():
    with pytest.raises(UserError, match="resnet19"):
        imagenet.find("resnet19")
