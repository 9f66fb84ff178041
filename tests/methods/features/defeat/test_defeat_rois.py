"""DeFeat's divergence of class outputs: values by hand, choice of RoIs, and gradients."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.methods.features.defeat import DeFeat, mean_divergence
from kd.observers import Candidates, channels_of, observe
from tests.methods.features.defeat.defeat_scene import (
    BACKBONE,
    HEAD,
    TWO_OBJECTS,
    batch_of,
    losses,
    random_models,
    total,
)

torch.set_num_threads(1)


def test_divergence_worked_out_by_hand():
    """Two classes at T = 2: probabilities 3/4 and 1/4 against 1/2 each, times 4."""
    teacher, student = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    by_hand = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert mean_divergence(teacher, student, 2).item() == pytest.approx(by_hand, rel=1e-6)


class Region:
    """A second stage that knows logits by RoI, and samples proposals into given candidates."""

    def __init__(
        self, logits: Tensor, sampled: Candidates, candidates: Candidates | None = None
    ) -> None:
        self.logits, self.sampled, self.candidates = logits, sampled, candidates
        self.proposals = [torch.zeros(1, 4)]
        self.sampled_from: list[Any] = []

    def candidate_logits(self, candidates: Candidates) -> Tensor:
        return self.logits[candidates.index]

    def sample(self, proposals: list[Tensor]) -> Candidates:
        self.sampled_from.append(proposals)
        return self.sampled


def rois(instance: list[int], rows: range) -> Candidates:
    index, image = torch.tensor([*rows], dtype=torch.long), torch.zeros(len(rows), dtype=torch.long)
    return Candidates(image, index, torch.tensor(instance, dtype=torch.long), torch.zeros(9, 5))


@pytest.fixture
def stages() -> tuple[Region, Region]:
    """Return models whose RoIs are rows 0 to 3 (teacher's proposals) and 4 to 8 (student's)."""
    torch.manual_seed(0)
    sampled, candidates = rois([0, -1, -1, -1], range(4)), rois([0, 1, -1, -1, -1], range(4, 9))
    student = Region(torch.randn(9, 6, requires_grad=True), sampled, candidates)
    return student, Region(torch.randn(9, 6, requires_grad=True), sampled)


def test_positive_and_negative_rois_of_the_teachers_proposals_apart(stages):
    student, teacher = stages
    heat = {"positive_temperature": 3.0, "negative_temperature": 2.0}
    terms = losses(stages, None, **HEAD | heat | {"negative_weight": 5})
    positive, negative = slice(0, 1), slice(1, 4)
    torch.testing.assert_close(
        terms["loss_defeat_positive"],
        2 * mean_divergence(teacher.logits[positive], student.logits[positive], 3.0),
    )
    torch.testing.assert_close(
        terms["loss_defeat_negative"],
        5 * mean_divergence(teacher.logits[negative], student.logits[negative], 2.0),
    )
    assert student.sampled_from == [teacher.proposals]


def test_rois_of_the_students_training_on_request(stages):
    student, teacher = stages
    terms = losses(stages, None, **HEAD, rois="student")
    expected = mean_divergence(teacher.logits[4:6], student.logits[4:6], 1.0)
    torch.testing.assert_close(terms["loss_defeat_positive"], 2 * expected)
    assert not student.sampled_from


def test_all_rois_at_once_are_one_mean(stages):
    student, teacher = stages
    terms = losses(stages, None, **HEAD | {"head": "whole"})
    expected = 2 * mean_divergence(teacher.logits[:4], student.logits[:4], 1.0)
    torch.testing.assert_close(terms, {"loss_defeat_rois": expected})


def test_gradients_of_the_second_stage_reach_the_student_alone(stages):
    student, teacher = stages
    total(stages, None, **HEAD).backward()
    assert student.logits.grad[:4].ne(0).all() and student.logits.grad[4:].eq(0).all()
    assert teacher.logits.grad is None


@pytest.mark.parametrize("instance", [[-1] * 4, [0] * 4, []], ids=["negative", "positive", "no"])
def test_without_rois_of_a_kind_its_term_is_zero(stages, instance):
    student, _ = stages
    student.sampled = rois(instance, range(len(instance)))
    terms = losses(stages, None, **HEAD)
    terms["loss_defeat_positive"].backward(retain_graph=True)
    assert (terms["loss_defeat_positive"].item() == 0) == (0 not in instance)
    assert (terms["loss_defeat_negative"].item() == 0) == (-1 not in instance)
    assert student.logits.grad.isfinite().all()


@pytest.mark.parametrize("boxes", [(3, 2), (1, 0), (0, 0)])
@pytest.mark.parametrize("rois", ["teacher", "student"])
def test_the_full_method_on_faster_rcnn(build, batch, boxes, rois):
    data, (student, teacher) = batch(boxes), (build("faster_rcnn", seed=seed) for seed in (0, 1))
    observations = observe(student, data, frozen=False), observe(teacher.eval(), data, frozen=True)
    observations[0].losses()
    method = DeFeat(**HEAD | BACKBONE | {"object_weight": 4, "background_weight": 16}, rois=rois)
    layers = nn.ModuleDict(method.adapters(channels_of(student), channels_of(teacher)))
    terms = method.losses(*observations, data, layers)
    assert all(torch.as_tensor(part).isfinite().all() for part in terms.values())
    assert (terms["loss_defeat_positive"] > 0) == any(boxes)
    assert (sum(terms["loss_defeat_object"]) > 0) == any(boxes)
    sum(sum(p) if isinstance(p, list) else p for p in terms.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in layers.parameters())
    assert student.roi_head.bbox_head.fc_cls.weight.grad.ne(0).any()
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_equal_logits_cost_nothing_one_class_included(stages):
    student, _ = stages
    student.logits = torch.randn(9, 2)  # one class and background
    same = total((student, Region(student.logits, student.sampled)), None, **HEAD)
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_focus_shows_the_cells_of_objects_and_the_positive_rois(stages):
    student, teacher = random_models()
    focus = DeFeat().focus(student, teacher, batch_of(TWO_OBJECTS))
    assert focus.maps["stride 8"].sum() == 2 and focus.maps["stride 16"].shape == (4, 4)
    boxes = DeFeat(**HEAD).focus(*stages, batch_of(TWO_OBJECTS)).boxes
    assert boxes["positive RoIs"].shape == (1, 4)
