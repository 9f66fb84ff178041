"""Classifiers of timm by name; `pip install --editable '.[timm]'` enables all tests."""

import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from safetensors.torch import save_file

import kd.config.classifiers
import kd.runtime
from kd.classifiers.model import load_imagenet
from kd.classifiers.teacher import ClassifierTeacher
from kd.common.errors import UserError
from kd.config.classifiers import compose_classifier
from kd.config.library import Library
from kd.models import imagenet, weights
from tests.support.paths import REPOSITORY
from tests.support.tiny import edit

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
FILE = Path("checkpoints/timm/resnet18.a1_in1k.safetensors")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a project with the classifier ``mine`` of timm."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shutil.copytree(REPOSITORY / "configs", "configs")
    shutil.copy("configs/classifiers/smoke.yaml", "configs/classifiers/mine.yaml")
    edit("configs/classifiers/mine.yaml", architecture="timm/resnet18")
    return tmp_path


def composed() -> dict[str, Any]:
    config = compose_classifier("mine", "shapes-smoke", 0, Library(Path("configs")), "tests")
    model: dict[str, Any] = config["model"]
    return model


def test_without_timm_the_plan_ends_with_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kd.config.classifiers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"mine\.yaml: architecture 'timm/resnet18' needs timm; "):
        composed()


def test_weights_in_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"w": torch.arange(3.0)}, tmp_path / "net.safetensors")
    assert weights.read_state(tmp_path / "net.safetensors")["w"].tolist() == [0, 1, 2]
    (tmp_path / "net.safetensors").write_bytes(b"damaged file")
    with pytest.raises(UserError, match=r"net\.safetensors: not a readable checkpoint"):
        weights.read_state(tmp_path / "net.safetensors")


@pytest.fixture
def build() -> Callable[..., Any]:
    settings = {"type": "ObjectClassifier", "classes": 3, "size": 64, "loss": "cross_entropy"}
    images = {"init": "scratch", "mean": [0, 0, 0], "std": [1, 1, 1]}
    return lambda architecture: MODELS.build(settings | images | {"architecture": architecture})


@needs_timm
def test_a_classifier_of_timm_has_the_classes_of_the_data(
    project: Path, build: Callable[..., Any]
) -> None:
    assert composed()["architecture"] == "timm/resnet18"
    model = build("timm/resnet18")
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    assert model.network.training


@needs_timm
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet19", "timm has no classifier 'resnet19'; did you mean 'resnet1"),
        ("timm/vit_tiny_patch16_224", "does not accept images of 64 x 64 pixels"),
    ],
)
def test_a_name_or_size_that_timm_refuses_is_one_line(
    build: Callable[..., Any], name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build(name)


@needs_timm
def test_weights_of_timm_fill_all_but_the_last_layer(
    project: Path, build: Callable[..., Any]
) -> None:
    import timm

    torch.manual_seed(1)
    published = timm.create_model("resnet18").state_dict()
    FILE.parent.mkdir(parents=True)
    save_file(published, FILE)
    assert imagenet.find("timm/resnet18") == FILE
    network = build("timm/resnet18").network
    last = network.fc.weight.clone()
    load_imagenet(network, "timm/resnet18")
    assert torch.equal(network.conv1.weight, published["conv1.weight"])
    assert torch.equal(network.fc.weight, last)


@needs_timm
def test_without_internet_the_error_names_file_and_place(project: Path) -> None:
    text = r"model\.safetensors of timm/resnet18\.a1_in1k at the hub cannot be reached \(.*\); put "
    with pytest.raises(imagenet.UnreachableError, match=f"{text}the file at {FILE}, or use"):
        imagenet.find("timm/resnet18")


@needs_timm
def test_a_teacher_of_timm_has_logits_and_stages(build: Callable[..., Any], tmp_path: Path) -> None:
    model = build("timm/convnext_atto")
    weights.save(tmp_path / "weights.pth", {"state_dict": model.state_dict()})
    config = {"type": "ObjectClassifier", "architecture": "timm/convnext_atto", "classes": 3}
    rest = {"size": 64, "loss": "focal", "init": "scratch", "mean": [0, 0, 0], "std": [1, 1, 1]}
    teacher = ClassifierTeacher(config | rest, tmp_path / "weights.pth")
    crops = torch.randn(2, 3, 64, 64, requires_grad=True)
    maps = teacher.stages(crops, 1)
    assert [tuple(one.shape[2:]) for one in maps] == [(16, 16), (8, 8)]
    (maps[1].sum() + teacher.logits(crops).sum()).backward()
    assert crops.grad is not None
    with pytest.raises(UserError, match="no stage 4"):
        teacher.stages(crops, 4)
