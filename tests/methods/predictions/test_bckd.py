"""BCKD: values worked out by hand, a plain form on every head, rare scenes, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy
from torchvision.ops import generalized_box_iou

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.terms import check_readable, resolve
from kd.methods.predictions.bckd import BinaryDistillation, masked_sum
from kd.observers.heads import offered
from tests.methods.predictions.side_scene import Scene, scene
from tests.methods.scenes import total
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

HEADS = ["retinanet", "atss", "fcos", "gfl", "rtmdet", "tood", "vfnet", "ddod", "reppoints"]
BOX, OTHER = [20.0, 10.0, 70.0, 55.0], [4.0, 8.0, 40.0, 44.0]
POSITIVE = {(0, 40): 0, (0, 41): 0, (1, 99): 0}


def losses_of(of: Scene, **settings: Any) -> dict[str, Any]:
    method = BinaryDistillation(**settings)
    return method.losses(of.student, of.teacher, of.batch, torch.nn.ModuleDict())


def plain_form(student: Any, teacher: Any, compared: Tensor, power: float = 1) -> tuple[Any, Any]:
    """Return both terms without their weights, from probabilities (B, N, C) and boxes (B, N, 4).

    ``compared``: (B, N), true for priors that count.
    """
    p_student, p_teacher = student.logits.sigmoid(), teacher.logits.sigmoid().detach()
    gap = (p_teacher - p_student).abs()
    entropy = binary_cross_entropy(p_student, p_teacher, reduction="none")
    positive = (student.assignment >= 0).sum(1).clamp(min=1).sum()
    boxes = (model.prior_boxes.flatten(0, 1) for model in (student, teacher))
    rows = zip(*boxes, strict=True)
    giou = torch.stack([generalized_box_iou(a[None], b[None])[0, 0] for a, b in rows])
    weight = gap.detach().amax(2)[compared]
    classes = (gap.pow(power) * entropy)[compared].sum() / positive
    return classes, (weight * (1 - giou.unflatten(0, compared.shape)[compared])).sum() / positive


# --- Values ------------------------------------------------------------------------------------


def test_a_masked_sum_worked_out_by_hand():
    """Two anchors of two classes on two cells: priors are ordered by cell, then anchor."""
    values = torch.arange(8.0).view(1, 4, 1, 2)  # (anchor, class): cells 0 and 1
    first_anchor_of_second_cell = torch.tensor([[0.0, 0, 1, 0]])
    assert masked_sum(values, first_anchor_of_second_cell).item() == 1 + 3
    second_anchor_of_first_cell = torch.tensor([[0.0, 1, 0, 0]])
    assert masked_sum(values, second_anchor_of_first_cell).item() == 4 + 6


def test_both_terms_equal_a_plain_form():
    of = scene([BOX], [OTHER], positives=POSITIVE)
    every = torch.ones_like(of.student.sampled)
    for power in (1, 2):
        classes, boxes = plain_form(of.student, of.teacher, every, power)
        losses = losses_of(of, power=power)
        assert losses["loss_bckd_cls"].item() == pytest.approx(classes.item())
        assert losses["loss_bckd_loc"].item() == pytest.approx(4 * boxes.item())
    assert total(losses_of(of, weight=3, box_weight=0)).item() == pytest.approx(
        3 * losses_of(of)["loss_bckd_cls"].item()
    )


def test_ignored_priors_do_not_count():
    of = scene([BOX], [OTHER], positives=POSITIVE)
    of.student.sampled[0, :50] = of.student.sampled[1, 100:] = False
    classes, boxes = plain_form(of.student, of.teacher, of.student.sampled)
    losses = losses_of(of)
    assert losses["loss_bckd_cls"].item() == pytest.approx(classes.item())
    assert losses["loss_bckd_loc"].item() == pytest.approx(4 * boxes.item())


def test_levels_without_a_positive_prior_can_be_skipped():
    """The first 96 priors are the finer level; only it has positive priors."""
    of = scene([BOX], [OTHER], positives={(0, 40): 0})
    compared = torch.ones_like(of.student.sampled)
    compared[:, 96:] = False
    classes, boxes = plain_form(of.student, of.teacher, compared)
    losses = losses_of(of, levels="positive")
    assert losses["loss_bckd_cls"].item() == pytest.approx(classes.item())
    assert losses["loss_bckd_loc"].item() == pytest.approx(4 * boxes.item())
    assert total(losses_of(scene([], []), levels="positive")) == 0


@pytest.mark.parametrize("head", HEADS)
def test_both_terms_equal_a_plain_form_on_every_head(build, batch, head):
    from kd.observers import observe

    data = batch()
    student = observe(build(head), data, frozen=False)
    student.losses()
    detector = build(head, seed=1)
    with torch.no_grad():
        for parameter in detector.bbox_head.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    teacher = observe(detector.eval(), data, frozen=True)
    method = BinaryDistillation()
    losses = method.losses(student, teacher, data, torch.nn.ModuleDict())
    classes, boxes = plain_form(student, teacher, student.sampled)
    torch.testing.assert_close(losses["loss_bckd_cls"], classes)
    torch.testing.assert_close(losses["loss_bckd_loc"], 4 * boxes, rtol=1e-4, atol=1e-6)
    assert losses["loss_bckd_cls"] > 0 and losses["loss_bckd_loc"] > 0
    maps = [*student.outputs[0], *student.outputs[1]]
    gradients = torch.autograd.grad(total(losses), maps)
    assert all(gradient.isfinite().all() for gradient in gradients)
    focus = method.focus(student, teacher, data)
    assert [tuple(level.shape) for level in focus.maps.values()] == student.sizes


# --- Properties --------------------------------------------------------------------------------


def test_zero_for_equal_models_and_for_equal_boxes():
    of = scene([BOX], [OTHER], positives=POSITIVE)
    assert total(losses_of(Scene(of.student, of.student, of.batch, of.maps))).abs() < 1e-12
    of.teacher.sides = of.student.sides
    assert losses_of(of)["loss_bckd_loc"].abs() < 1e-12
    assert losses_of(of)["loss_bckd_cls"] > 0.1


def test_without_objects_the_divisor_is_the_number_of_images():
    of = scene([], [])
    classes, _ = plain_form(of.student, of.teacher, of.student.sampled)
    losses = losses_of(of)
    assert losses["loss_bckd_cls"].item() == pytest.approx(classes.item())
    one_each = scene([BOX], [OTHER], positives={(0, 40): 0, (1, 99): 0})
    assert total(losses_of(one_each)).item() == pytest.approx(total(losses).item())


def test_gradients_of_the_class_term_are_those_of_the_value():
    of = scene([BOX], positives={(0, 40): 0})
    level = of.student.class_maps[1].detach().requires_grad_()

    def loss(classes: Tensor) -> Tensor:
        of.student.class_maps[1] = classes
        return losses_of(of, box_weight=0)["loss_bckd_cls"]

    assert torch.autograd.gradcheck(loss, level)


def test_gradients_of_the_box_term_are_those_of_the_value_and_reach_boxes_alone():
    of = scene([BOX], positives={(0, 40): 0})
    sides = of.student.sides.detach().requires_grad_()

    def loss(sides: Tensor) -> Tensor:
        of.student.sides = sides
        return losses_of(of, weight=0)["loss_bckd_loc"]

    assert torch.autograd.gradcheck(loss, sides)
    of.teacher.sides.requires_grad_()
    gradients = torch.autograd.grad(
        loss(sides), [sides, of.maps["classes"], of.teacher.sides], allow_unused=True
    )
    assert gradients[0].any() and gradients[1] is gradients[2] is None


def test_the_teacher_gets_no_gradient():
    of = scene([BOX], positives={(0, 40): 0})
    of.teacher.class_maps = [level.requires_grad_() for level in of.teacher.class_maps]
    gradients = torch.autograd.grad(
        losses_of(of)["loss_bckd_cls"],
        [of.maps["classes"], *of.teacher.class_maps],
        allow_unused=True,
    )
    assert gradients[0].any() and gradients[1] is gradients[2] is None


def test_a_power_below_one_is_refused():
    with pytest.raises(UserError, match="power"):
        BinaryDistillation.parse({"power": 0.5}, "here")


# --- Refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", ["ssd300", "yolov3"])
def test_heads_without_a_binary_decision_at_every_prior_are_refused(detector):
    library = Library(CONFIGS)
    terms = resolve("bckd", {}, detector, library, "x")
    reason = f"reads class_sigmoids, which detector '{detector}' does not offer"
    with pytest.raises(UserError, match=reason):
        check_readable(terms, detector, detector, library, "x")


def test_a_softmax_in_a_head_that_may_have_sigmoids_is_not_offered():
    model = Library(CONFIGS).detector("retinanet", "x").model
    assert "class_sigmoids" in offered(model)
    loss = {"type": "CrossEntropyLoss", "use_sigmoid": False}
    softmax = model | {"bbox_head": model["bbox_head"] | {"loss_cls": loss}}
    assert "class_sigmoids" not in offered(softmax)
