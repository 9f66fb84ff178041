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
