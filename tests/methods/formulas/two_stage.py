"""Terms of the methods that learn from Faster R-CNN, implemented from the papers.

Like ``one_stage``, the formulas use neither ``kd.observers`` nor ``kd.methods``.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from tests.methods.formulas.hooked import Step
from tests.methods.formulas.parts import level_masks, masked_mean, objects, softmax_kl
from tests.support import plain_forms


def positive_iou(step: Step) -> float:
    """Return the IoU with an object from which a RoI is positive."""
    return step.student.model.roi_head.bbox_assigner.pos_iou_thr


def mimic(step: Step, method: Any) -> dict[str, Any]:
    """Return Mimic's L_m on the student's proposals."""
    boxes = step.student.proposals(step.samples)
    rois = torch.cat([F.pad(rows, (1, 0), value=image) for image, rows in enumerate(boxes)])
    extractor = step.student.model.roi_head.bbox_roi_extractor
    student, teacher = (
        extractor(model.neck[: extractor.num_inputs], rois)
        for model in (step.student, step.teacher)
    )
    adapted = step.adapters["mimic"]["regression"](student)
    squares = (adapted - teacher).square().flatten(1).mean(1)
    return {"loss_mimic": method.weight * squares.mean() / 2}


def matched(step: Step, rois: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return of RoIs (R, 5) the best IoU with an object, that object's box, and its class."""
    rows = []
    for image, box in zip(rois[:, 0].long().tolist(), rois[:, 1:], strict=True):
        overlap, index = ops.box_iou(box[None], step.boxes[image])[0].max(0)
        rows.append((overlap, step.boxes[image][index], step.labels[image][index]))
    overlaps, boxes, labels = map(torch.stack, zip(*rows, strict=True))
    return overlaps, boxes, labels


def task_adaptive(step: Step, method: Any) -> dict[str, Any]:
    """Return TADF's terms in the first epoch, in which the decay is 1."""
    neck, masks = 0.0, level_masks(step, method, plain_forms.gaussian(method.sigma_squared))
    for level, mask in enumerate(masks):
        adapted_map = step.adapters["tadf"][f"level{level}"](step.student.neck[level])
        neck += masked_mean((adapted_map - step.teacher.neck[level]).square().sum(1) / 2, mask)
    rois = step.student.rois(0)
    overlap, truth, labels = matched(step, rois)
    positive = (overlap >= positive_iou(step)).nonzero().flatten()
    outputs = [model.regions(rois) for model in (step.teacher, step.student)]
    p, q = (logits[positive].double().softmax(1) for logits, _ in outputs)
    entropy = -(p * q.log() + (1 - p) * (1 - q).log()).mean()
    codes = [boxes.unflatten(1, (-1, 4))[positive, labels[positive]] for _, boxes in outputs]
    coder = step.teacher.model.roi_head.bbox_head.bbox_coder
    boxes = coder.decode(rois[positive, 1:], codes[0])
    teacher_overlap = ops.box_iou(boxes, truth[positive]).diagonal()
    distance = (codes[1] - codes[0]).abs().mean(1)[teacher_overlap > overlap[positive]]
    return {
        "loss_tadf_neck": method.feature_weight * neck / len(masks),
        "loss_tadf_cls": method.classification_weight * entropy,
        "loss_tadf_reg": method.regression_weight * distance.sum() / max(len(distance), 1),
    }


def defeat(step: Step, method: Any) -> dict[str, Any]:
    """Return all of DeFeat's terms, on RoIs sampled from the teacher's proposals."""
    totals = dict.fromkeys(("object", "background", "stage_object", "stage_background"), 0.0)

    def imitate(name: str, layer: str, student: Tensor, teacher: Tensor, mask: Tensor) -> None:
        adapted_map = step.adapters["defeat"][layer](student)
        half_square = (adapted_map - teacher).square().mean(1) / 2
        for region, cells in (("object", mask), ("background", 1 - mask)):
            totals[name + region] += masked_mean(half_square, cells)

    for level, mask in enumerate(level_masks(step, method)):
        maps = (model.neck[level] for model in (step.student, step.teacher))
        imitate("", f"level{level}", *maps, mask)
    finest = torch.zeros(len(step.boxes), *(side // 4 for side in step.inputs.shape[-2:]))
    for image, _, box, _ in objects(step):
        plain_forms.draw(finest[image], box.tolist(), 4, plain_forms.ones)
    for stage in (0, 1):
        maps = [model.stages[stage - 2] for model in (step.student, step.teacher)]
        mask = F.interpolate(finest[:, None], maps[0].shape[-2:])[:, 0]
        imitate("stage_", f"stage{stage}", *maps, mask)
    rois = step.teacher.rois(-1)
    assert_sampled(step, rois)
    positive = matched(step, rois)[0] >= positive_iou(step)
    teacher_logits, _ = step.teacher.regions(rois)
    student_logits, _ = step.student.regions(rois)
    parts = {
        "object": method.object_weight * totals["object"] / len(step.sizes),
        "background": method.background_weight * totals["background"] / len(step.sizes),
        "stage_object": method.backbone_object_weight * totals["stage_object"] / 2,
        "stage_background": method.backbone_background_weight * totals["stage_background"] / 2,
    }
    for name, rows in (("positive", positive), ("negative", ~positive)):
        weight, temperature = (getattr(method, f"{name}_{x}") for x in ("weight", "temperature"))
        divergence = softmax_kl(teacher_logits[rows], student_logits[rows], temperature)
        parts[name] = weight * divergence.mean()
    return {f"loss_defeat_{name}": value for name, value in parts.items()}


def assert_sampled(step: Step, rois: Tensor) -> None:
    """Assert that RoIs are proposals of the teacher or objects, as in mmdet's sampler."""
    boxes = step.teacher.proposals(step.samples)
    for image, proposals in enumerate(boxes):
        sources = torch.cat([proposals, step.boxes[image]])
        image_rois = rois[rois[:, 0] == image, 1:]
        assert len(image_rois) and (image_rois[:, None] == sources).all(2).any(1).all()


FORMULAS = {"mimic": mimic, "tadf": task_adaptive, "defeat": defeat}
