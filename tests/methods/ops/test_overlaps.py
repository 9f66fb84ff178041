"""Generalized and distance IoU of boxes, and the entropy that a gap of probabilities weighs."""

import math

import pytest
import torch
from torch import Tensor

from kd.methods.ops.boxes import aligned_giou, aligned_iou, iou_and_diou
from kd.methods.ops.divergences import focused_entropy

torch.set_num_threads(1)


def random_boxes(count: int, seed: int) -> Tensor:
    """Return boxes (count, 4), xyxy in pixels, of at least 1 px."""
    generator = torch.Generator().manual_seed(seed)
    corner, side = torch.rand(2, count, 2, generator=generator, dtype=torch.float64) * 60
    return torch.cat([corner, corner + side + 1], 1)


def test_a_generalized_iou_worked_out_by_hand():
    """Boxes of 2 x 2 px that share 1 px: 1 / 7, less (9 - 7) / 9."""
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]])
    others = torch.tensor([[1.0, 1, 3, 3], [3, 0, 4, 1]])
    # Two boxes of 1 px in a row of 4 px: 0, less (4 - 2) / 4.
    assert aligned_giou(boxes, others).tolist() == pytest.approx([1 / 7 - 2 / 9, -0.5])


def test_a_distance_iou_worked_out_by_hand():
    """Centers (1, 1) and (2, 2) in an enclosing box of 3 x 3 px: 1 / 7, less 2 / 18."""
    iou, diou = iou_and_diou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3]]))
    assert iou.item() == pytest.approx(1 / 7)
    assert diou.item() == pytest.approx(1 / 7 - 1 / 9)


def test_generalized_iou_equals_mmdets_loss_in_value_and_gradient(quiet_mmdet):
    from mmdet.models.losses import GIoULoss

    boxes, others = random_boxes(40, 0).requires_grad_(), random_boxes(40, 1)
    ours, theirs = (1 - aligned_giou(boxes, others)).sum(), GIoULoss(reduction="sum")(boxes, others)
    torch.testing.assert_close(ours, theirs)
    gradients = (torch.autograd.grad(loss, boxes)[0] for loss in (ours, theirs))
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(aligned_giou, (boxes[:5], others[:5]))


def test_every_pair_has_the_iou_of_its_rows_and_a_smaller_distance_iou():
    boxes, others = random_boxes(6, 2), random_boxes(4, 3)
    iou, diou = iou_and_diou(boxes, others)
    assert iou.shape == diou.shape == (6, 4)
    rows = torch.stack([aligned_iou(boxes, other.expand(6, 4)) for other in others], 1)
    torch.testing.assert_close(iou, rows)
    assert (diou < iou).all()
    assert (diou > -1).all()


def test_empty_boxes_give_numbers():
    point = torch.tensor([[5.0, 5, 5, 5]], requires_grad=True)
    giou = aligned_giou(point, point.detach())
    giou.sum().backward()
    assert giou.item() == 0
    assert point.grad is not None and point.grad.isfinite().all()
    assert all(value.isfinite().all() for value in iou_and_diou(point.detach(), point.detach()))
    assert iou_and_diou(point.detach(), torch.zeros(0, 4))[0].shape == (1, 0)


def test_a_focused_entropy_worked_out_by_hand():
    """Probabilities 3/4 of the teacher and 1/2 of the student."""
    teacher, student = torch.tensor([math.log(3)]), torch.zeros(1)
    assert focused_entropy(teacher, student, 1).item() == pytest.approx(0.25 * math.log(2))
    assert focused_entropy(teacher, student, 2).item() == pytest.approx(0.25**2 * math.log(2))
    assert focused_entropy(teacher, student, 0).item() == pytest.approx(math.log(2))


def test_focused_entropy_has_the_quality_focal_loss_of_a_soft_target(quiet_mmdet):
    """The loss in mmdet has the target at one class, and the target 0 at the others."""
    from mmdet.models.losses import QualityFocalLoss

    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([0.9, 0.4, 0.1, 0.7, 0.5], dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 1, 0])
    teacher = torch.full_like(logits, -1e3)
    teacher[torch.arange(5), labels] = target.logit()
    theirs = QualityFocalLoss(beta=2.0, reduction="sum")(logits, (labels, target))
    torch.testing.assert_close(focused_entropy(teacher, logits, 2).sum(), theirs)


def test_focused_entropy_is_zero_for_equal_logits_and_finite_for_extreme_ones():
    logits = torch.tensor([-300.0, -1.0, 0.0, 2.0, 300.0], requires_grad=True)
    assert focused_entropy(logits.detach(), logits, 1).abs().max() == 0
    loss = focused_entropy(-logits.detach(), logits, 1).sum()
    loss.backward()
    assert loss.isfinite() and loss > 100
    assert logits.grad is not None and logits.grad.isfinite().all()
