"""Terms of the methods that compare class outputs and boxes of dense heads, from the papers.

The formulas use neither ``kd.observers`` nor ``kd.methods``. They serve RetinaNet, which has
encoded boxes, and GFL, which has distributions of box sides.
"""

from typing import Any

import torch
from torch import Tensor
from torchvision import ops

from tests.methods.formulas.hooked import Detector, Step, by_prior
from tests.methods.formulas.parts import decoded, softmax_kl


def decoded_boxes(step: Step, outputs: Tensor) -> Tensor:
    """Return all boxes (B, N, 4), xyxy in pixels, of codes (B, N, 4) or sides (B, N, 4, bins)."""
    if outputs.dim() == 3:
        priors = torch.arange(len(step.anchors))
        return torch.stack([decoded(step, codes, priors) for codes in outputs])
    distances = (outputs.softmax(3) * torch.arange(outputs.shape[3])).sum(3)
    stride = [
        torch.full((len(anchors), 1), float(stride))
        for anchors, stride in zip(step.level_anchors, step.strides, strict=True)
    ]
    distances = distances * torch.cat(stride)
    centers = (step.anchors[:, :2] + step.anchors[:, 2:]) / 2
    return torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], 2)


def box_outputs(detector: Detector) -> Tensor:
    """Return GFL's sides (B, N, 4, bins) or RetinaNet's codes (B, N, 4)."""
    return detector.sides if detector.has_sides else detector.codes


def box_distance(step: Step, student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - GIoU (B, N) of the boxes that outputs encode."""
    boxes = [decoded_boxes(step, outputs).double() for outputs in (student, teacher)]
    return ops.generalized_box_iou_loss(*boxes)


def entropy_of_gap(student_logits: Tensor, teacher_logits: Tensor, power: float) -> Tensor:
    """Return |p^T - p^S|^power times the cross-entropy of p^S with p^T, of each logit."""
    q, p = (logits.double().sigmoid() for logits in (student_logits, teacher_logits))
    return (p - q).abs() ** power * -(p * q.log() + (1 - p) * (1 - q).log())


def binary(step: Step, method: Any) -> dict[str, Any]:
    """Return BCKD's terms: binary decisions on classes, and boxes weighted by their difference."""
    student, teacher = step.student, step.teacher
    is_compared = step.assignment != -2
    count = sum(max(int((image >= 0).sum()), 1) for image in step.assignment)
    classes = entropy_of_gap(student.logits, teacher.logits, method.power).sum(2)
    gap = (teacher.logits.sigmoid() - student.logits.sigmoid()).abs().amax(2)
    boxes = box_distance(step, box_outputs(student), box_outputs(teacher)) * gap
    return {
        "loss_bckd_cls": method.weight * classes[is_compared].sum() / count,
        "loss_bckd_loc": method.box_weight * boxes[is_compared].sum() / count,
    }


def crossed(step: Step) -> tuple[Tensor, Tensor]:
    """Return class logits and box outputs of the teacher's last layers on the student's features.

    Heads have two stacked convolutions: the features are those after the first.
    """
    head = step.teacher.model.bbox_head
    _, class_layer = head.cls_convs
    _, box_layer = head.reg_convs
    class_features = map(class_layer, step.student.by_level("bbox_head.cls_convs.0"))
    box_features = map(box_layer, step.student.by_level("bbox_head.reg_convs.0"))
    if not step.student.has_sides:
        classes = by_prior([head.retina_cls(maps) for maps in class_features], head.num_classes)
        return classes, by_prior([head.retina_reg(maps) for maps in box_features], 4)
    classes = by_prior([head.gfl_cls(maps) for maps in class_features], head.num_classes)
    pairs = zip(head.scales, box_features, strict=True)
    sides = [scale(head.gfl_reg(maps)) for scale, maps in pairs]
    return classes, by_prior(sides, sides[0].shape[1]).unflatten(2, (4, -1))


def sides_kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL (..., 4) of logits (..., 4, bins)."""
    rows = (sides.flatten(0, -2) for sides in (teacher, student))
    return softmax_kl(*rows, temperature).view(teacher.shape[:-1])


def cross_head(step: Step, method: Any) -> dict[str, Any]:
    """Return CrossKD's terms: means over priors, or weighted by the teacher's best scores."""
    logits, outputs = crossed(step)
    teacher_outputs = box_outputs(step.teacher)
    scores = step.teacher.logits.sigmoid().amax(2)
    classes = entropy_of_gap(logits, step.teacher.logits, method.beta).sum()
    if step.student.has_sides:
        boxes = sides_kl(teacher_outputs, outputs, method.temperature).mean(2)
        box_weight = 4
    else:
        boxes, box_weight = box_distance(step, outputs, teacher_outputs), 1
    if method.region == method.divisor == "all":
        scores = torch.ones_like(scores)
    return {
        "loss_crosskd_cls": method.class_weight * classes / scores.sum(),
        "loss_crosskd_box": box_weight * (scores * boxes).sum() / scores.sum(),
    }


def valuable_region(step: Step, method: Any, image: int) -> Tensor:
    """Return the weight (N,) of anchors in LD's valuable localization region, object by object."""
    weights = torch.zeros(len(step.anchors))
    for box in step.boxes[image]:
        nearest, first = [], 0
        for anchors in step.level_anchors:
            centers = (anchors[:, :2] + anchors[:, 2:]) / 2
            distance = (centers - (box[:2] + box[2:]) / 2).norm(dim=1)
            rows = distance.topk(min(method.nearest, len(anchors)), largest=False).indices
            nearest.append(rows + first)
            first += len(anchors)
        overlap = ops.box_iou(step.anchors, box[None])[:, 0]
        candidates = overlap[torch.cat(nearest)]
        threshold = candidates.mean() + candidates.std()
        diou = ops.distance_box_iou(step.anchors, box[None])[:, 0]
        inside = (diou >= method.gamma * threshold) & (diou < threshold)
        weights = torch.maximum(weights, torch.where(inside, overlap, 0))
    return weights


def localization(step: Step, method: Any) -> dict[str, Any]:
    """Return LD's terms on a batch of two images: distributions of sides, T^2 KL by bin."""
    teacher, student = step.teacher.sides, step.student.sides
    divergence = sides_kl(teacher, student, method.temperature).mean(2) / student.shape[3]
    scores = step.student.logits.sigmoid().amax(2)
    positive = step.assignment >= 0
    region = torch.stack([valuable_region(step, method, image) for image in (0, 1)])
    return {
        "loss_ld": method.weight * (divergence * scores)[positive].sum(),
        "loss_ld_region": method.region_weight * (divergence * region).sum(),
    }


FORMULAS = {"bckd": binary, "crosskd": cross_head, "ld": localization}
