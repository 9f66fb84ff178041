"""The frozen classifier teacher: it never changes, and gradients reach its crops."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

import kd.runtime  # noqa: F401
from kd.classifiers.teacher import ClassifierTeacher
from kd.common.errors import UserError
from kd.models import weights

torch.set_num_threads(1)

CONFIG: dict[str, Any] = {
    "type": "ObjectClassifier", "architecture": "resnet18", "classes": 8, "size": 112,
    "loss": "cross_entropy", "init": "imagenet",  # weights of a checkpoint replace these
    "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375],
}  # fmt: skip


@pytest.fixture(scope="module")
def teach(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ClassifierTeacher]:
    """Return a function that returns a teacher of random weights and statistics."""
    folder = tmp_path_factory.mktemp("teachers")

    def build(**changes: Any) -> ClassifierTeacher:
        config = CONFIG | changes
        path = folder / f"{config['architecture']}.pth"
        torch.manual_seed(0)
        model = MODELS.build(config)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
        weights.save(path, {"state_dict": model.state_dict()})
        return ClassifierTeacher(config, str(path))

    return build


@pytest.fixture(scope="module")
def teacher(teach: Callable[..., ClassifierTeacher]) -> ClassifierTeacher:
    return teach()


def crops(count: int = 2, size: int = 112) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 3, size, size)


def test_training_mode_and_gradients_do_not_change_it(teacher: ClassifierTeacher) -> None:
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    nn.ModuleDict({"teacher": teacher}).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    inputs = crops().requires_grad_()
    (teacher.logits(inputs).sum() + teacher.stages(inputs, 1)[1].sum()).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())


@pytest.mark.parametrize("what", ["logits", "stage 0", "stage 2"])
def test_gradients_reach_the_crops(teacher: ClassifierTeacher, what: str) -> None:
    inputs = crops().requires_grad_()
    outputs = (
        teacher.logits(inputs) if what == "logits" else teacher.stages(inputs, int(what[-1]))[-1]
    )
    outputs[0].square().sum().backward()
    assert inputs.grad[0].abs().sum() > 0
    assert inputs.grad[1].abs().sum() == 0


def test_logits_are_those_of_the_classifier(teacher: ClassifierTeacher) -> None:
    raw = torch.randint(0, 256, (2, 3, 112, 112)).float()
    torch.manual_seed(0)
    model = MODELS.build(CONFIG)
    model.network.load_state_dict(teacher.network.state_dict())
    expected = model.eval()(raw)
    inputs = (raw - teacher.mean[:, None, None]) / teacher.std[:, None, None]
    assert torch.allclose(teacher.logits(inputs), expected, atol=1e-5)
    assert expected.shape == (2, 8) and teacher.classes == 8 and teacher.size == 112


def test_a_detectors_normalization_is_converted(teacher: ClassifierTeacher) -> None:
    raw = torch.randint(0, 256, (2, 3, 6, 6)).float()
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([1.0, 2.0, 3.0])
    inputs = ((raw - mean[:, None, None]) / std[:, None, None]).requires_grad_()
    converted = teacher.normalized(inputs, mean, std)
    expected = (raw - teacher.mean[:, None, None]) / teacher.std[:, None, None]
    assert torch.allclose(converted, expected, atol=1e-5)
    converted.sum().backward()
    assert torch.allclose(inputs.grad, (std / teacher.std)[:, None, None].expand_as(inputs))
    same = teacher.normalized(crops(), teacher.mean, teacher.std)
    assert torch.equal(same, crops())


def test_stages_of_a_resnet(teacher: ClassifierTeacher) -> None:
    maps = teacher.stages(crops(), 4)
    shapes = [(64, 28), (64, 28), (128, 14), (256, 7), (512, 4)]
    assert [(level.shape[1], *level.shape[2:]) for level in maps] == [(c, s, s) for c, s in shapes]
    logits = teacher.network.fc(maps[-1].mean((2, 3)))
    assert torch.allclose(logits, teacher.logits(crops()), atol=1e-5)
    network = teacher.network
    stem = network.maxpool(network.relu(network.bn1(network.conv1(crops()))))
    torch.testing.assert_close(maps[0], stem, rtol=1e-6, atol=1e-6)


def test_deeper_stages_are_not_computed(teacher: ClassifierTeacher) -> None:
    called = []
    hooks = [
        getattr(teacher.network, name).register_forward_hook(
            lambda *_, name=name: called.append(name)
        )
        for name in ("maxpool", "layer1", "layer2", "layer3")
    ]
    assert len(teacher.stages(crops(), 0)) == 1
    assert called == ["maxpool"]
    assert len(teacher.stages(crops(), 1)) == 2
    assert called == ["maxpool", "maxpool", "layer1"]
    for hook in hooks:
        hook.remove()


def test_stages_of_a_network_with_features(teach: Callable[..., ClassifierTeacher]) -> None:
    teacher = teach(architecture="mobilenet_v2")
    maps = teacher.stages(crops(), 4)
    shapes = [(16, 56), (24, 28), (32, 14), (96, 7), (1280, 4)]
    assert [(level.shape[1], *level.shape[2:]) for level in maps] == [(c, s, s) for c, s in shapes]
    assert torch.equal(maps[-1], teacher.network.features(crops()))


def test_a_stage_that_does_not_exist_is_refused(teach: Callable[..., ClassifierTeacher]) -> None:
    with pytest.raises(UserError, match=r"resnet18: no stage 5 .*; valid: 0 to 4"):
        teach().stages(crops(), 5)
    other = teach(architecture="regnet_y_400mf")
    assert other.logits(crops()).shape == (2, 8)
    with pytest.raises(UserError, match=r"regnet_y_400mf: no stage 0 .*; valid: none"):
        other.stages(crops(), 0)


def test_weights_of_another_number_of_classes_are_refused(
    teach: Callable[..., ClassifierTeacher], tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    weights.save(path, {"state_dict": MODELS.build(CONFIG).state_dict()})
    with pytest.raises(UserError, match=r"network.fc.weight is \(8, 512\), not \(3, 512\)"):
        ClassifierTeacher(CONFIG | {"classes": 3}, path)
