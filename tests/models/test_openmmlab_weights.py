"""ImageNet weights at an address: OpenMMLab's classifiers, whose tensors are found by name."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.common.errors import UserError
from kd.models import imagenet
from kd.records import inputs

ADDRESS = "https://server/folder/cspnext-tiny_imagenet_600e-{digest}.pth"
MEAN, STD = Tensor([123.675, 116.28, 103.53]), Tensor([58.395, 57.12, 57.375])


@pytest.fixture(scope="module")
def classifier() -> dict[str, Tensor]:
    """Return the random weights of a classifier on CSPNeXt-tiny, in another order than its own."""
    from mmdet.models.backbones import CSPNeXt

    import kd.runtime  # noqa: F401

    torch.manual_seed(0)
    network = CSPNeXt(deepen_factor=0.167, widen_factor=0.375)
    state = {f"backbone.{key}": torch.randn_like(value.float())
             for key, value in network.state_dict().items()}  # fmt: skip
    return dict(reversed({**state, "head.fc.weight": torch.randn(10, 384)}.items()))


@pytest.fixture
def initialized(
    classifier: dict[str, Tensor],
    build: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., dict[str, Tensor]]:
    """Return a function that returns the tensors of a backbone that starts from the classifier."""
    file = tmp_path / "classifier.pth"
    torch.save({"meta": {"epoch": 600}, "state_dict": classifier}, file)
    monkeypatch.setattr(imagenet, "find", lambda name: file)

    def tensors(detector: str, backbone: str = "cspnext-tiny") -> dict[str, Tensor]:
        state = build(detector, backbone=backbone, init="imagenet").backbone.state_dict()
        return {key: value for key, value in state.items() if not key.endswith(imagenet.COUNTER)}

    return tensors


@pytest.mark.parametrize("detector", ["rtmdet", "retinanet"])
def test_tensors_are_found_by_name_and_not_changed(
    initialized: Any, classifier: dict[str, Tensor], detector: str
) -> None:
    """Mmdet reads the weights with BGR images for RTMDet, although they were trained on RGB."""
    for name, value in initialized(detector).items():
        assert torch.equal(value, classifier[f"backbone.{name}"]), name


def test_a_narrow_backbone_has_the_leading_channels(
    initialized: Any, classifier: dict[str, Tensor]
) -> None:
    state = initialized("rtmdet", "cspnext-tiny-w0.5")
    for name, value in state.items():
        block = classifier[f"backbone.{name}"][tuple(slice(size) for size in value.shape)]
        assert torch.equal(value, block), name
    assert state["stem.0.conv.weight"].shape[0] == 6


def test_the_first_layer_is_fitted_to_images_that_are_not_normalized(
    initialized: Any, classifier: dict[str, Tensor]
) -> None:
    state = initialized("yolox")
    pixels = torch.rand(3, 16, 16) * 255
    normalized = (pixels - MEAN.flip(0)[:, None, None]) / STD.flip(0)[:, None, None]
    outputs = [
        nn.functional.conv2d(image, weights["stem.0.conv.weight"])
        - weights["stem.0.bn.running_mean"][:, None, None]
        for image, weights in (
            (pixels, state),
            (normalized, {key.removeprefix("backbone."): v for key, v in classifier.items()}),
        )
    ]
    torch.testing.assert_close(*outputs, rtol=1e-3, atol=1e-3)


def test_weights_of_another_architecture_are_refused(
    initialized: Any, classifier: dict[str, Tensor]
) -> None:
    with pytest.raises(UserError, match=r"have no 'backbone\.stage1\..*'; name the weights of the"):
        initialized("rtmdet", "cspnext-m")


# --- Channels of torchvision's weights --------------------------------------------------------


def test_torchvisions_first_layer_reads_bgr_images(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torchvision

    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    monkeypatch.setattr(imagenet, "find", lambda name: tmp_path / "resnet18.pth")
    image = torch.randn(1, 3, 16, 16)
    expected = network.conv1(image)
    backbone = build("rtmdet", backbone="r18", init="imagenet").backbone
    torch.testing.assert_close(backbone.conv1(image.flip(1)), expected, rtol=1e-4, atol=1e-4)


# --- Weights of caffe ----------------------------------------------------------------------------

CAFFE = "r50-caffe-w0.125"
CAFFE_MEAN, FCOS_MEAN = Tensor([103.53, 116.28, 123.675]), Tensor([102.9801, 115.9465, 122.7717])
"""Means of the weights' training and of FCOS's images, BGR."""


@pytest.fixture
def caffe(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Tensor]:
    """Return random weights that are the ImageNet weights, in a file of the backbone alone."""
    state: dict[str, Tensor] = build("retinanet", seed=1, backbone=CAFFE).backbone.state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "bn1.bias")):
            value.normal_()
    torch.save({"state_dict": state}, tmp_path / "resnet50.pth")
    monkeypatch.setattr(imagenet, "find", lambda name: tmp_path / "resnet50.pth")
    return state


def _first_layer(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return the normalized first convolution, without its border: padding has another color."""
    convolved = nn.functional.conv2d(images, state["conv1.weight"], stride=2)
    return convolved - state["bn1.running_mean"][:, None, None]


def test_caffes_weights_are_loaded_unchanged_into_a_detector_of_their_normalization(
    build: Callable[..., Any], caffe: dict[str, Tensor]
) -> None:
    state = build("retinanet", backbone=CAFFE, init="imagenet").backbone.state_dict()
    assert all(torch.equal(state[key], value) for key, value in caffe.items())


def test_caffes_first_layer_is_fitted_to_the_mean_of_fcos(
    build: Callable[..., Any], caffe: dict[str, Tensor]
) -> None:
    state = build("fcos", backbone=CAFFE, init="imagenet").backbone.state_dict()
    pixels = torch.rand(1, 3, 32, 32) * 255
    outputs = (
        _first_layer(weights, pixels - mean[:, None, None])
        for weights, mean in ((state, FCOS_MEAN), (caffe, CAFFE_MEAN))
    )
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-3)
    assert not torch.equal(state["bn1.running_mean"], caffe["bn1.running_mean"])


def test_caffes_first_layer_reads_rgb_images(
    build: Callable[..., Any], caffe: dict[str, Tensor]
) -> None:
    backbone = build("retinanet", backbone=CAFFE).backbone
    trained_with = {"mean": CAFFE_MEAN.tolist(), "std": [1.0] * 3, "bgr_to_rgb": False}
    imagenet.ImageNet("https://server/resnet50-00000000.pth", trained_with=trained_with)(backbone)
    rgb = torch.rand(1, 3, 32, 32) * 255
    normalized = (rgb - MEAN[:, None, None]) / STD[:, None, None]
    outputs = (
        _first_layer(backbone.state_dict(), normalized),
        _first_layer(caffe, rgb.flip(1) - CAFFE_MEAN[:, None, None]),
    )
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-3)


# --- The file ----------------------------------------------------------------------------------


def test_a_file_at_an_address_is_downloaded_once_and_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    content = b"weights"
    address = ADDRESS.format(digest=hashlib.sha256(content).hexdigest()[:8])
    calls: list[str] = []

    def download(source: str, path: Path, digest: str) -> None:
        calls.append(source)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr(imagenet, "download", download)
    paths = [imagenet.find(address) for _ in range(2)]
    assert calls == [address]
    assert paths[0] == paths[1] == tmp_path / "checkpoints" / address.rpartition("/")[2]
    paths[0].write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"SHA-256 is not the one in its name; delete it"):
        imagenet.find(address)


@pytest.mark.parametrize("digest", ["tiny", "78e30d", "78E30DCC"])
def test_an_address_without_a_digest_is_refused(digest: str) -> None:
    with pytest.raises(UserError, match=r"the file's name must end in '-' and the first 8 or more"):
        imagenet.address_of(ADDRESS.format(digest=digest))


def test_the_inputs_of_a_run_name_the_file() -> None:
    address = ADDRESS.format(digest="3a2dd350")
    assert inputs._imagenet_file(address) == "cspnext-tiny_imagenet_600e-3a2dd350.pth"
    assert inputs._imagenet_file("torchvision://resnet18") == "resnet18-f37072fd.pth"
    assert inputs._imagenet_file(None) is None
