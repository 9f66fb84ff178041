"""DICOD's class term: values of the method reference, values by hand, and gradients."""

import math

import pytest
import torch

from kd.methods.ops.spatial_transformer import crops
from kd.methods.predictions.dicod import foreground_divergence, scaled_divergence
from tests.methods.predictions.dicod.dicod_scene import (
    ONE_BOX,
    SIDE,
    STUDENT,
    TEACHER,
    Classifier,
    ConstantClassifier,
    losses,
    student_of,
)

torch.set_num_threads(1)


def test_golden_value_of_a_softmax_whose_teacher_knows_no_background():
    divergence = foreground_divergence(TEACHER, STUDENT, 2.0)
    assert divergence.item() == pytest.approx(ONE_BOX, abs=1e-6)


def test_background_costs_its_own_probability_worked_out_by_hand():
    """(3/4, 1/4) against (3/8, 1/8) and 1/2 of background: the divergence is log 2."""
    teacher = torch.tensor([[3.0, 1.0]]).log()
    student = torch.tensor([[3.0, 1.0, 4.0]]).log()
    assert foreground_divergence(teacher, student, 1.0).item() == pytest.approx(math.log(2))


def test_scaled_sigmoids_worked_out_by_hand():
    """Sigmoids (1/2, 1/2) and (3/4, 1/4): distributions (1/2, 1/2) and (3/4, 1/4)."""
    teacher, student = torch.zeros(1, 2), torch.tensor([[0.75, 0.25]]).logit()
    by_hand = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert scaled_divergence(teacher, student, 1.0).item() == pytest.approx(by_hand)
    assert scaled_divergence(teacher * 2, student * 2, 2.0).item() == pytest.approx(4 * by_hand)


@pytest.mark.parametrize(
    ("logits", "expected"), [(STUDENT, ONE_BOX), (STUDENT[:, :3], 0.116766)], ids=["softmax", "bce"]
)
def test_golden_values_of_the_method(data, logits, expected):
    student = student_of(torch.ones(1, 4), [0], [0], logits.clone())
    loss = losses(student, data, ConstantClassifier(), lambda_kc=1)["loss_dicod_cls"]
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_each_positive_box_learns_what_the_crop_of_its_object_shows(data, student):
    teacher = Classifier()
    truth = torch.cat(data.gt_boxes)
    logits = teacher.logits(crops(data.inputs, torch.tensor([0, 0, 1]), truth, SIDE))
    rows, instances = [0, 1, 3, 4], [0, 1, 1, 2]
    by_hand = 0.0
    for row, instance in zip(rows, instances, strict=True):
        p, q = (logits[instance] / 2).sigmoid(), (student.logits[row] / 2).sigmoid()
        divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        by_hand += 4 * divergence.mean() / len(rows)
    loss = losses(student, data, teacher)["loss_dicod_cls"]
    torch.testing.assert_close(loss, 0.4 * by_hand)
    loss.backward()
    assert student.logits.grad[2].eq(0).all()
    assert student.logits.grad[rows].ne(0).all()
    assert student.boxes.grad is None


@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("form", ["kl-bce", "kl-ce"])
def test_class_term_is_zero_only_where_it_can_be(data, width, form):
    """A softmax always gives the background a probability; sigmoids can agree with the teacher."""
    logits = TEACHER.clone() if width == 3 else torch.cat([TEACHER, torch.zeros(1, 1)], 1)
    student = student_of(torch.ones(1, 4), [0], [0], logits)
    loss = losses(student, data, ConstantClassifier(), sigmoid=form)["loss_dicod_cls"].item()
    assert loss == pytest.approx(0, abs=1e-6) if width == 3 else loss > 0.1


@pytest.mark.parametrize("form", [foreground_divergence, scaled_divergence])
def test_gradcheck_of_classes(form):
    generator = torch.Generator().manual_seed(0)
    width = 4 if form is foreground_divergence else 3
    teacher = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    student = torch.randn(5, width, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: form(teacher, s, 2.0), student.requires_grad_())
