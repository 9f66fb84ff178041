"""Stacked convolutions of dense heads, and the rest of a head on another detector's features."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kd.observers import observe
from kd.observers.towers import rest_of_head

HEADS = ("retinanet", "atss", "gfl", "fcos")


@pytest.fixture
def deep(quiet_mmdet: None, model_config: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Return a function that builds a tiny detector with four stacked convolutions."""
    from kd.models.build import build_model

    def detector(family: str, seed: int = 0, **head: Any) -> Any:
        config = model_config(family)
        config["bbox_head"].update(stacked_convs=4, **head)
        torch.manual_seed(seed)
        model = build_model(config)
        model.init_weights()
        with torch.no_grad():
            for parameter in model.bbox_head.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        for level, scale in enumerate(getattr(model.bbox_head, "scales", ())):
            scale.scale.data += level
        return model.train()

    return detector


def frozen(detector: Any) -> Any:
    return detector.eval().requires_grad_(False)


@pytest.mark.parametrize("family", HEADS)
def test_a_students_features_are_those_of_its_loss(deep, batch, family):
    student = deep(family)
    observation = observe(student, batch(), frozen=False)
    runs: list[int] = []
    student.bbox_head.cls_convs[2].register_forward_hook(lambda *_: runs.append(1))
    losses = observation.losses()
    towers = observation.towers
    assert len(runs) == len(observation.neck) == 5
    total, _ = student.parse_losses(losses)
    for branch in towers:
        assert [len(levels) for levels in branch] == [5] * 5
        assert branch[0] is observation.neck
        for levels in branch[1:]:
            gradients = torch.autograd.grad(total, levels, retain_graph=True)
            assert any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("family", HEADS)
def test_recorded_and_computed_features_have_the_same_bits(deep, batch, family):
    student, data = deep(family), batch()
    recorded, computed = (observe(student, data, frozen=False) for _ in range(2))
    _ = recorded.outputs
    computed.neck = recorded.neck
    for one, other in zip(recorded.towers, computed.towers, strict=True):
        for levels, other_levels in zip(one, other, strict=True):
            assert all(map(torch.equal, levels, other_levels))


@pytest.mark.parametrize("layers", range(5))
@pytest.mark.parametrize("family", HEADS)
def test_the_rest_of_a_head_on_its_features_has_the_bits_of_the_whole_head(
    deep, batch, family, layers
):
    teacher = frozen(deep(family))
    observation = observe(teacher, batch(), frozen=True)
    stacks = teacher.bbox_head.cls_convs, teacher.bbox_head.reg_convs
    features = (branch[-1 - layers] for branch in observation.towers)
    maps = rest_of_head(teacher.bbox_head, layers, *features)
    assert (teacher.bbox_head.cls_convs, teacher.bbox_head.reg_convs) == stacks
    for ours, whole in zip(maps, observation.outputs, strict=False):
        assert all(map(torch.equal, ours, whole))


@pytest.mark.parametrize("family", HEADS)
def test_gradients_flow_to_the_student_and_not_to_the_teacher(deep, batch, family):
    data, student = batch(), deep(family)
    teacher = frozen(deep(family, seed=1))
    student_view = observe(student, data, frozen=False)
    student_view.losses()
    crossed = observe(teacher, data, frozen=True).crossed(student_view, 1)
    (crossed.logits.square().sum() + crossed.prior_boxes.sum() / 100).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    head = student.bbox_head
    for stack in (head.cls_convs, head.reg_convs):
        assert [layer.conv.weight.grad is not None for layer in stack] == [True, True, True, False]
    others = {name.split(".")[0] for name, p in head.named_parameters() if p.grad is not None}
    assert others == {"cls_convs", "reg_convs"}
    assert student.backbone.conv1.weight.grad.any()


@pytest.mark.parametrize("family", HEADS)
def test_equal_detectors_have_equal_crossed_outputs(deep, batch, family):
    data, student = batch(), deep(family)
    teacher = frozen(deep(family))
    # The same maps, so that normalization of the training mode makes no difference.
    observations = [observe(model, data, frozen=model is teacher) for model in (student, teacher)]
    observations[1].neck = observations[0].neck
    teacher_view = observations[1]
    for layers in (0, 1, 4):
        crossed = teacher_view.crossed(observations[0], layers)
        assert torch.equal(crossed.logits, teacher_view.logits)
        assert torch.equal(crossed.prior_boxes, teacher_view.prior_boxes)


@pytest.mark.parametrize("family", HEADS)
def test_a_subset_has_the_features_of_its_images(deep, batch, family):
    student = observe(deep(family), batch(), frozen=False)
    student.losses()
    part = student.subset(slice(1, 2))
    for branch, whole in zip(part.towers, student.towers, strict=True):
        for levels, whole_levels in zip(branch, whole, strict=True):
            assert all(torch.equal(a, b[1:]) for a, b in zip(levels, whole_levels, strict=True))


def test_an_observation_without_gradients_records_nothing(deep, batch):
    teacher = observe(frozen(deep("gfl")), batch(), frozen=True)
    _ = teacher.outputs
    assert "towers" not in vars(teacher)
    assert not teacher.head.cls_convs[0]._forward_hooks
