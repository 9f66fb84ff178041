"""Chen et al. 2017: values of the method reference, and properties."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from kd.common.schema import UserError
from kd.methods.predictions.chen import (
    Chen,
    background_cost,
    bounded_error,
    hard_negatives,
    hint_distance,
    weighted_sigmoid_entropy,
    weighted_softmax_entropy,
)
from kd.observers import Channels

torch.set_num_threads(1)

# Background is the last output here and the first one in the method reference.
TEACHER, STUDENT = torch.tensor([[0.0, -1.0, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]])
FORMS = [weighted_softmax_entropy, weighted_sigmoid_entropy]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- Class-weighted soft labels ------------------------------------------------------------


@pytest.mark.parametrize(("background", "expected"), [(1.5, 1.267678), (1.0, 0.904005)])
def test_golden_value_of_the_weighted_cross_entropy(background, expected):
    entropy = weighted_softmax_entropy(TEACHER, STUDENT, background, 1)
    assert entropy.item() == pytest.approx(expected, abs=1e-6)


def test_a_weighted_softmax_worked_out_by_hand():
    """Teacher (2/3, 1/3) and student (1/2, 1/2), and a background weight of 3."""
    teacher = torch.tensor([[math.log(2), 0.0]])
    entropy = weighted_softmax_entropy(teacher, torch.zeros(1, 2), 3, 1)
    assert entropy.item() == pytest.approx((2 / 3 + 3 * 1 / 3) * math.log(2), abs=1e-6)


def test_sigmoids_worked_out_by_hand():
    """Teacher (3/4, 1/2) and student (1/2, 1/2); each class has a background of weight 3."""
    teacher = torch.tensor([[math.log(3), 0.0]])
    entropy = weighted_sigmoid_entropy(teacher, torch.zeros(1, 2), 3, 1)
    by_hand = (3 / 4 + 3 * 1 / 4 + 1 / 2 + 3 * 1 / 2) * math.log(2)
    assert entropy.item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_one_sigmoid_is_a_softmax_of_object_and_background(temperature):
    """An RPN's loss is therefore the paper's for both forms of its head."""
    teacher, student = random(2, 9, 1)
    outputs = [torch.cat([logits, torch.zeros_like(logits)], 1) for logits in (teacher, student)]
    torch.testing.assert_close(
        weighted_sigmoid_entropy(teacher, student, 1.5, temperature),
        weighted_softmax_entropy(*outputs, 1.5, temperature),
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_temperature_divides_logits_and_nothing_multiplies(form):
    teacher, student = random(2, 6, 4)
    entropy = form(teacher, student, 1.5, 2.5)
    torch.testing.assert_close(entropy, form(teacher / 2.5, student / 2.5, 1.5, 1))


def test_without_a_weight_the_forms_are_torchs_cross_entropies():
    teacher, student = random(2, 6, 4)
    torch.testing.assert_close(
        weighted_softmax_entropy(teacher, student, 1, 1),
        cross_entropy(student, teacher.softmax(1), reduction="none"),
    )
    summed = binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none").sum(1)
    torch.testing.assert_close(weighted_sigmoid_entropy(teacher, student, 1, 1), summed)


def test_equal_models_cost_the_weighted_entropy_and_the_minimiser_leans_to_the_background():
    teacher = random(6, 4)
    weights = torch.tensor([1, 1, 1, 1.5], dtype=torch.float64)
    entropy = -(weights * teacher.softmax(1) * teacher.log_softmax(1)).sum(1)
    torch.testing.assert_close(weighted_softmax_entropy(teacher, teacher, 1.5, 1), entropy)
    best = (weights * teacher.softmax(1)).log().requires_grad_()  # up to a constant per row
    loss = weighted_softmax_entropy(teacher, best, 1.5, 1)
    assert (loss < entropy).all()
    (gradient,) = torch.autograd.grad(loss.sum(), best)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("form", FORMS)
def test_soft_labels_send_no_gradient_to_the_teacher_and_stay_finite(form):
    teacher, student = (logits.clone().requires_grad_() for logits in random(2, 6, 4) * 300)
    loss = form(teacher, student, 1.5, 1).sum()
    loss.backward()
    assert teacher.grad is None
    assert loss.isfinite() and student.grad.isfinite().all() and student.grad.ne(0).any()


# --- Bounded regression --------------------------------------------------------------------


def bounded(student: list[float], teacher: list[float], margin: float = 0) -> tuple[float, Tensor]:
    """Return L_b for the target 0 and its gradient."""
    codes = torch.tensor([student], requires_grad=True)
    loss = bounded_error(torch.tensor([teacher]), codes, torch.zeros(1, 4), margin).sum()
    loss.backward()
    return loss.item(), codes.grad


def test_golden_values_of_the_bound():
    worse, better = [0.3, 0, 0, 0], [0.1, 0, 0, 0]
    value, gradient = bounded(worse, better)
    assert value == pytest.approx(0.09)
    assert gradient.tolist() == [pytest.approx([0.6, 0, 0, 0])]
    value, gradient = bounded(better, worse)
    assert (value, gradient.tolist()) == (0, [[0, 0, 0, 0]])


def test_a_margin_widens_where_the_bound_is_active():
    """The squared errors of student and teacher are 0.01 and 0.09, a difference of 0.08."""
    assert bounded([0.1, 0, 0, 0], [0.3, 0, 0, 0], margin=0.07)[0] == 0
    assert bounded([0.1, 0, 0, 0], [0.3, 0, 0, 0], margin=0.09)[0] == pytest.approx(0.01)
    assert bounded([0.2] * 4, [0.2] * 4)[0] == 0
    assert bounded([0.2] * 4, [0.2] * 4, margin=0.01)[0] == pytest.approx(0.16)


def test_the_bound_sends_no_gradient_to_teacher_and_target():
    teacher, student, target = (codes.clone().requires_grad_() for codes in random(3, 7, 4))
    bounded_error(teacher, student, target, 0.5).sum().backward()
    assert teacher.grad is None and target.grad is None
    assert student.grad.ne(0).any()


# --- Hint ----------------------------------------------------------------------------------


def test_hint_of_maps_worked_out_by_hand():
    student, teacher = torch.zeros(1, 2, 1, 2), torch.tensor([[[[1.0, 2.0]], [[0.0, -3.0]]]])
    assert hint_distance(student, teacher, "l2").item() == (1 + 4 + 0 + 9) / 4
    assert hint_distance(student, teacher, "l1").item() == (1 + 2 + 0 + 3) / 4


def test_a_smaller_map_is_padded_below_and_on_the_right():
    student, teacher = torch.ones(1, 1, 1, 2), torch.ones(1, 1, 2, 1)
    assert hint_distance(student, teacher, "l1").item() == pytest.approx(2 / 4)


def test_gradcheck():
    teacher, student, target = random(3, 5, 4)
    student.requires_grad_()
    for form in FORMS:
        assert torch.autograd.gradcheck(lambda s, form=form: form(teacher, s, 1.5, 2), student)
    assert torch.autograd.gradcheck(lambda s: bounded_error(teacher, s, target, 0.3), student)
    student_maps, teacher_maps = random(2, 2, 3, 2, 2)
    for distance in ("l2", "l1"):
        assert torch.autograd.gradcheck(
            lambda m, distance=distance: hint_distance(m, teacher_maps.float(), distance),
            student_maps.requires_grad_(),
        )


# --- Hard negatives ------------------------------------------------------------------------


def test_hardest_negatives_of_each_image():
    cost = torch.tensor([[9.0, 1, 5, 3, 8, 2], [9.0, 1, 5, 3, 8, 2]])
    positive = torch.tensor([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()
    negative = torch.tensor([[0, 1, 1, 1, 0, 1], [1, 1, 1, 1, 1, 1]]).bool()
    assert hard_negatives(cost, positive, negative, 2)[0].nonzero().flatten().tolist() == [2, 3]
    assert not hard_negatives(cost, positive, negative, 2)[1].any()
    assert torch.equal(hard_negatives(cost, positive, negative, 99)[0], negative[0])
    assert not hard_negatives(cost, positive, negative, 0).any()


def test_cost_of_calling_a_prior_background():
    logits = random(1, 5, 3)
    target = torch.full((5,), 2)
    expected = cross_entropy(logits[0], target, reduction="none")
    torch.testing.assert_close(background_cost(logits, softmax=True)[0], expected)
    zeros = torch.zeros_like(logits)
    expected = binary_cross_entropy_with_logits(logits, zeros, reduction="none").sum(2)
    torch.testing.assert_close(background_cost(logits, softmax=False), expected)


# --- Settings ------------------------------------------------------------------------------


def test_needs_follow_from_the_weights():
    assert Chen().needs.both == {"stages", "candidates", "priors"}
    assert Chen(hint="neck", mu=1, nu=0).needs.both == {"neck"}
    assert Chen(gamma=0).needs.both == {"candidates", "priors"}
    assert Chen(gamma=0, mu=1, lambda_=0).needs.both == set()
    with pytest.raises(UserError, match="mu"):
        Chen.parse({"mu": 1.5}, "here")


def test_one_adapter_also_between_equal_widths():
    widths = Channels([8, 8], [4, 16]), Channels([8, 8], [6, 32])
    (adapter,) = Chen().adapters(*widths).values()
    assert adapter.weight.shape == (32, 16, 1, 1)
    assert Chen(level=0).adapters(*widths)["hint"].weight.shape == (6, 4, 1, 1)
    assert Chen(hint="neck").adapters(*widths)["hint"].weight.shape == (8, 8, 1, 1)
    assert Chen(gamma=0).adapters(*widths) == {}


# --- On detectors --------------------------------------------------------------------------


@pytest.fixture
def scene(build: Any, batch: Any) -> Any:
    """Return student, teacher and batch of a family, and the terms of a setting."""
    from kd.observers import channels_of, observe

    def compute(family: str, boxes: tuple[int, int] = (3, 2), **settings: Any) -> SimpleNamespace:
        detectors = build(family), build(family, seed=1)
        with torch.no_grad():
            for parameter in detectors[1].parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        data = batch(boxes)
        student = observe(detectors[0], data, frozen=False)
        student.losses()
        teacher = observe(detectors[1].eval(), data, frozen=True)
        method = Chen(**settings)
        adapters = nn.ModuleDict(method.adapters(*map(channels_of, detectors)))
        losses = method.losses(student, teacher, data, adapters)
        return SimpleNamespace(
            losses=losses, student=student, teacher=teacher, batch=data, adapters=adapters
        )

    return compute


ONE_STAGE = ["retinanet", "fcos", "gfl", "ssd300", "yolov3"]
TERMS = {"loss_chen_hint", "loss_chen_cls", "loss_chen_reg"}
RPN_TERMS = {"loss_chen_rpn_cls", "loss_chen_rpn_reg"}


@pytest.mark.parametrize("family", [*ONE_STAGE, "faster_rcnn"])
def test_every_term_is_finite_and_trains_the_adapter(scene, family):
    result = scene(family, margin=100)
    assert set(result.losses) == TERMS | (RPN_TERMS if family == "faster_rcnn" else set())
    assert all(value.isfinite() and value > 0 for value in result.losses.values())
    sum(result.losses.values()).backward()
    assert all(parameter.grad.ne(0).any() for parameter in result.adapters.parameters())


@pytest.mark.parametrize("family", ["fcos", "ssd300", "faster_rcnn"])
@pytest.mark.parametrize("boxes", [(0, 0), (1, 0)], ids=str)
def test_without_objects_or_with_one_the_losses_are_finite_and_attached(scene, family, boxes):
    result = scene(family, boxes)
    assert all(value.isfinite() for value in result.losses.values())
    assert all(value.requires_grad for value in result.losses.values())
    if boxes == (0, 0):
        assert result.losses["loss_chen_reg"].item() == 0


def test_second_stage_and_rpn_each_divide_by_their_own_batch(scene):
    """The numbers of samples are at most 32 and 256 per image; the weights are the paper's."""
    result = scene("faster_rcnn", margin=100)
    student, teacher, losses = result.student, result.teacher, result.losses
    rois = student.candidates
    entropy = weighted_softmax_entropy(
        teacher.candidate_logits(rois), student.candidate_logits(rois), 1.5, 1
    )
    torch.testing.assert_close(losses["loss_chen_cls"], 0.2 * entropy.sum() / len(rois))
    assert 0 < len(rois) <= 2 * 32

    image, anchor = student.sampled.nonzero(as_tuple=True)
    entropy = weighted_sigmoid_entropy(
        teacher.logits[image, anchor], student.logits[image, anchor], 1.5, 1
    )
    torch.testing.assert_close(losses["loss_chen_rpn_cls"], 0.2 * entropy.sum() / len(anchor))
    assert 0 < len(anchor) <= 2 * 256

    image, anchor = (student.sampled & (student.assignment >= 0)).nonzero(as_tuple=True)
    truth = torch.stack(
        [
            result.batch.gt_boxes[i][student.assignment[i, a]]
            for i, a in zip(image, anchor, strict=True)
        ]
    )
    gap = student.codes(image, anchor) - student.encode(truth, anchor)
    by_hand = 1 * 0.5 * gap.square().sum() / student.sampled.sum()
    torch.testing.assert_close(losses["loss_chen_rpn_reg"], by_hand)


def test_a_one_stage_detector_takes_positives_and_the_negatives_that_ssd_mines(scene):
    """The detection loss and Chen's term have gradients at logits of the same priors."""
    result = scene("ssd300")
    student = result.student
    (detection_gradient,) = torch.autograd.grad(
        sum(student.losses()["loss_cls"]), student.outputs[0][0], retain_graph=True
    )
    (distillation_gradient,) = torch.autograd.grad(
        result.losses["loss_chen_cls"], student.outputs[0][0]
    )
    outputs = student.head.cls_out_channels
    priors = [
        gradient_of_logits.unflatten(1, (-1, outputs)).ne(0).any(2)
        for gradient_of_logits in (detection_gradient, distillation_gradient)
    ]
    assert priors[0].any() and not priors[0].all()
    assert torch.equal(*priors)


def test_priors_that_the_assigner_ignores_are_no_negatives(scene):
    result = scene("retinanet", negatives=1e6)
    (gradient,) = torch.autograd.grad(result.losses["loss_chen_cls"], result.student.logits)
    assert not result.student.sampled.all()
    assert torch.equal(gradient.ne(0).any(2), result.student.sampled)


def test_positives_alone_on_request(scene):
    result = scene("retinanet", negatives=0)
    positive = result.student.assignment >= 0
    logits = [model.logits[positive] for model in (result.teacher, result.student)]
    expected = 0.2 * weighted_sigmoid_entropy(*logits, 1.5, 1).mean()
    torch.testing.assert_close(result.losses["loss_chen_cls"], expected)


def test_a_weight_of_zero_leaves_a_term_out(scene):
    assert set(scene("retinanet", gamma=0).losses) == TERMS - {"loss_chen_hint"}
    assert set(scene("retinanet", mu=1).losses) == TERMS - {"loss_chen_cls"}
    assert set(scene("retinanet", nu=0).losses) == TERMS - {"loss_chen_reg"}
    assert set(scene("retinanet", lambda_=0).losses) == TERMS - {"loss_chen_reg"}


def test_equal_models_cost_their_entropy_and_no_more(build, batch):
    """If the adapter is an identity, the hint is 0, and the strict bound is not active."""
    from kd.observers import channels_of, observe

    detector, data = build("faster_rcnn").eval(), batch()
    student = observe(detector, data, frozen=False)
    student.losses()
    method = Chen()
    adapters = nn.ModuleDict(method.adapters(channels_of(detector), channels_of(detector)))
    with torch.no_grad():
        nn.init.dirac_(adapters["hint"].weight)
        adapters["hint"].bias.zero_()
    losses = method.losses(student, observe(detector, data, frozen=True), data, adapters)
    assert losses["loss_chen_hint"].item() == pytest.approx(0, abs=1e-9)
    assert losses["loss_chen_reg"].item() == losses["loss_chen_rpn_reg"].item() == 0
    logits = student.candidate_logits(student.candidates)
    entropy = weighted_softmax_entropy(logits, logits, 1.5, 1).mean()
    torch.testing.assert_close(losses["loss_chen_cls"], 0.2 * entropy)


def test_it_draws_boxes_of_the_first_image_where_the_bound_is_active(scene):
    result = scene("retinanet", (2, 2))
    positives = int((result.student.assignment[0] >= 0).sum())
    arguments = result.student, result.teacher, result.batch
    assert len(Chen(margin=1e9).focus(*arguments).boxes["boxes beyond the bound"]) == positives > 0
    assert Chen(nu=0).focus(*arguments).boxes == {}


def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps):
    full, rounded = distil_random_maps(Chen(hint="neck", level=0, margin=100), 24)
    for name, value in rounded.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, full[name], rtol=0.01, atol=0)
