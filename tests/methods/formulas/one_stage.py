"""Terms of the methods that learn from RetinaNet, implemented from the papers.

The formulas loop over objects, images and pairs. They read a method's settings and the layers of
its adapters, but use neither ``kd.observers`` nor ``kd.methods``.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import ops

from tests.methods.formulas.hooked import Step
from tests.methods.formulas.parts import (
    attention,
    decoded,
    level_of,
    masked_mean,
    objects,
    priors_of,
    sides_of,
    sigmoid_kl,
    softmax_kl,
)  # fmt: skip
from tests.support import plain_forms


def rank_mimicking(step: Step, method: Any) -> dict[str, Any]:
    """Return RM's terms (equations 5 and 6): KL of softmaxes over each object's anchors."""
    totals = {"loss_rm_cls": 0.0, "loss_rm_loc": 0.0}
    for image, index, box, label in objects(step):
        priors, ranks = priors_of(step, image, index), []
        for model in (step.teacher, step.student):
            scores = model.logits[image, priors, label]
            boxes = decoded(step, model.codes[image, priors], priors)
            ranks.append((scores, ops.box_iou(boxes, box[None])[:, 0]))
        for name, teacher, student in zip(totals, *ranks, strict=True):
            totals[name] += float(softmax_kl(teacher[None], student[None], 1)[0])
    count = sum(map(len, step.boxes))
    return {name: method.weight * total / count for name, total in totals.items()}


def prediction_guided(step: Step, method: Any) -> dict[str, Any]:
    """Return PFI's term (equations 7 to 9) of logits, with squared norms."""
    terms = []
    for level, student_map in enumerate(step.student.neck):
        teacher_classes, student_classes = (
            model.class_maps[level].double() for model in (step.teacher, step.student)
        )
        gap = (teacher_classes - student_classes).square().mean(1)
        distance = (student_map.double() - step.teacher.neck[level].double()).square().mean(1)
        terms.append((gap * distance).square().mean())
    return {"loss_pfi": method.weight * torch.stack(terms).mean()}


def positive_cells(step: Step) -> list[Tensor]:
    """Return per level (B, H, W), 1 for cells with the anchor of an object."""
    positive = (step.assignment >= 0).split([len(anchors) for anchors in step.level_anchors], 1)
    pairs = zip(positive, step.sizes, strict=True)
    return [level.reshape(len(level), *size, -1).any(-1).float() for level, size in pairs]


def fitnets(step: Step, method: Any) -> dict[str, Any]:
    """Return FitNets' term: mean squared difference on positive cells, mean over levels."""
    total = 0.0
    for level, cells in enumerate(positive_cells(step)):
        adapted_map = step.adapters["fitnets"][f"level{level}"](step.student.neck[level])
        total += masked_mean((adapted_map - step.teacher.neck[level]).square().mean(1), cells)
    return {"loss_fitnets": method.weight * total / len(step.sizes)}


def soft_labels(step: Step, method: Any) -> dict[str, Any]:
    """Return the soft labels' term: Bernoulli divergences at the positive anchors."""
    at = (step.assignment >= 0).nonzero(as_tuple=True)
    teacher_logits, student_logits = (
        model.logits[at] / method.temperature for model in (step.teacher, step.student)
    )
    divergence = sigmoid_kl(teacher_logits, student_logits).mean(1) * method.temperature**2
    return {"loss_soft_labels": method.weight * divergence.mean()}


def fine_grained(step: Step, method: Any) -> dict[str, Any]:
    """Return FGFI's L_im: cells with an anchor whose IoU exceeds psi times the best one's."""
    counts = [len(anchors) for anchors in step.level_anchors]
    masks = [torch.zeros(len(step.boxes), *size) for size in step.sizes]
    for image, _, box, _ in objects(step):
        overlap = ops.box_iou(step.anchors, box[None])[:, 0]
        near = (overlap > method.psi * overlap.max()).split(counts)
        for mask, level, size in zip(masks, near, step.sizes, strict=True):
            mask[image] = torch.maximum(mask[image], level.reshape(*size, -1).any(-1).float())
    total = 0.0
    for level, mask in enumerate(masks):
        adapted_map = step.adapters["fgfi"][f"level{level}"](step.student.neck[level])
        total += masked_mean((adapted_map - step.teacher.neck[level]).square().sum(1) / 2, mask)
    return {"loss_fgfi": method.weight * total / len(masks)}


def nonlocal_block(block: Any, maps: Tensor) -> Tensor:
    """Return maps plus the normalized relation, from the affinities of all pairs of cells."""
    window = [min(block.pool, side) for side in maps.shape[-2:]]
    theta = block.theta(maps).flatten(2)
    phi, g = (F.max_pool2d(layer(maps), window).flatten(2) for layer in (block.phi, block.g))
    affinity = torch.einsum("bci,bcj->bij", theta, phi) / phi.shape[2]
    relation = block.out(torch.einsum("bij,bcj->bci", affinity, g).unflatten(2, maps.shape[-2:]))
    scale, shift = block.norm.weight, block.norm.bias
    return maps + F.batch_norm(relation, None, None, scale, shift, training=True)


def feature_distillation(step: Step, method: Any) -> dict[str, Any]:
    """Return FKD's terms in the form of its published code, on a batch of two images."""
    sums = dict.fromkeys(("channel", "spatial", "feature", "nonlocal"), 0.0)
    for level, (student, teacher) in enumerate(
        zip(step.student.neck, step.teacher.neck, strict=True)
    ):
        layers = {name.rstrip("0123456789"): layer for name, layer in step.adapters["fkd"].items()
                  if name.endswith(str(level))}  # fmt: skip
        cells, channels = teacher[0, 0].numel(), teacher.shape[1]
        mask = [attention(maps, (1,), method.temperature) for maps in (student, teacher)]
        spatial = (sum(mask) / 2 * cells).view(len(teacher), 1, *teacher.shape[-2:])
        mask = [attention(maps, (2, 3), method.temperature) for maps in (student, teacher)]
        channel = (sum(mask) / 2 * channels)[..., None, None]
        pairs = {
            "channel": layers["channel"](student.mean((2, 3))) - teacher.mean((2, 3)),
            "spatial": layers["spatial"](student.mean(1, True)) - teacher.mean(1, True),
            "feature": (layers["feature"](student) - teacher) * (spatial * channel).sqrt(),
            "nonlocal": layers["relation"](nonlocal_block(layers["student"], student))
            - nonlocal_block(layers["teacher"], teacher),
        }
        for name, difference in pairs.items():
            sums[name] += float(difference.norm())
    factors = [method.transfer_weight] * 2 + [method.feature_weight, method.nonlocal_weight]
    terms = zip(sums.items(), factors, strict=True)
    return {f"loss_fkd_{name}": factor * total for (name, total), factor in terms}


def general_instances(step: Step, method: Any, image: int) -> Tensor:
    """Return GID's regions (R, 4): the largest score differences, after suppression."""
    teacher_scores, student_scores = (
        model.logits[image].sigmoid() for model in (step.teacher, step.student)
    )
    difference = (teacher_scores - student_scores).abs().amax(1)
    score, prior = difference.topk(min(3000, len(difference)))
    surer = teacher_scores[prior].amax(1) > student_scores[prior].amax(1)
    teacher_boxes, student_boxes = (
        decoded(step, model.codes[image, prior], prior) for model in (step.teacher, step.student)
    )
    boxes = torch.where(surer[:, None], teacher_boxes, student_boxes)
    height, width = step.samples[image].img_shape[:2]
    boxes = ops.clip_boxes_to_image(boxes, (height, width))
    large = (boxes[:, 2:] - boxes[:, :2] > method.least_side).all(1)
    boxes, score = boxes[large], score[large]
    return boxes[ops.nms(boxes, score, method.overlap)[: method.count]]


def region_features(step: Step, method: Any, rois: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pooled maps (R, C, 10, 10) of the teacher and of the adapted student."""
    sides, pooled = sides_of(method, step, 14 * step.strides[0]), []
    adapted = [step.adapters["gid"]["shared"](maps) for maps in step.student.neck]
    for maps in (step.teacher.neck, adapted):
        rows = []
        for roi in rois:
            rank = level_of(roi[1:], sides, added=0)
            scale = 1 / step.strides[rank]
            rows.append(ops.roi_align(maps[rank], roi[None], 10, scale, 2, True))
        pooled.append(torch.cat(rows))
    return pooled[0], pooled[1]


def relation(features: Tensor) -> Tensor:
    """Return the distances of all pairs of (R, ...), divided by their mean."""
    rows = features.flatten(1).double()
    distances = torch.stack(
        [(rows[i] - rows[j]).norm() for i in range(len(rows)) for j in range(i + 1, len(rows))]
    )
    return distances / distances.mean()


def general_instance(step: Step, method: Any) -> dict[str, Any]:
    """Return GID's terms: features and relations of regions, responses of matched anchors."""
    features, relations, count = [], 0.0, 0
    response_sums = {"cls": 0.0, "reg": 0.0}
    for image in range(len(step.boxes)):
        regions = general_instances(step, method, image)
        rois = torch.cat([torch.full((len(regions), 1), float(image)), regions], 1)
        teacher_features, student_features = region_features(step, method, rois)
        features += (teacher_features - student_features).flatten(1).norm(dim=1).tolist()
        relations += float(F.smooth_l1_loss(relation(student_features), relation(teacher_features)))
        overlap = ops.box_iou(step.anchors, regions)
        matched = overlap >= method.anchor_iou
        if getattr(method, "best_anchors", False):
            matched |= (overlap == overlap.amax(0)) & (overlap > 0)
        at = image, matched.any(1)
        count += int(matched.any(1).sum())
        target, logits = step.teacher.logits[at].sigmoid(), step.student.logits[at]
        response_sums["cls"] += float(
            F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        )
        response_sums["reg"] += float((step.student.codes[at] - step.teacher.codes[at]).abs().sum())
    response = method.response / count
    return {
        "loss_gid_feature": method.feature * sum(features) / len(features),
        "loss_gid_relation": method.relation * relations / len(step.boxes),
        "loss_gid_cls": response * method.alpha * response_sums["cls"],
        "loss_gid_reg": response * method.beta * response_sums["reg"],
    }


def chen(step: Step, method: Any) -> dict[str, Any]:
    """Return Chen's terms: hint, entropy of classes and background, bounded regression."""
    adapted_map = step.adapters["chen"]["hint"](step.student.stages[-1])
    hint = (adapted_map - step.teacher.stages[-1]).square().mean()
    entropy, bounded, count = 0.0, 0.0, 0
    for image, image_assignment in enumerate(step.assignment):
        positive, logits = (image_assignment >= 0).nonzero().flatten(), step.student.logits[image]
        cost = F.softplus(logits).sum(1).masked_fill(image_assignment != -1, -math.inf)
        negatives = int((image_assignment == -1).sum())
        most = min(int(method.negatives * len(positive)), negatives)
        mined = cost.argsort(descending=True, stable=True)[:most]
        compared = torch.cat([positive, mined])
        p = step.teacher.logits[image, compared].double().sigmoid()
        q = logits[compared].double().sigmoid()
        weighted = p * q.log() + method.background_weight * (1 - p) * (1 - q).log()
        entropy -= float(weighted.sum())
        coder = step.student.model.bbox_head.bbox_coder
        target = coder.encode(step.anchors[positive], step.boxes[image][image_assignment[positive]])
        errors = [
            (model.codes[image, positive] - target).square().sum(1)
            for model in (step.student, step.teacher)
        ]
        bounded += float(errors[0][errors[0] + method.margin > errors[1]].sum())
        count += len(compared)
    return {
        "loss_chen_hint": method.gamma * hint,
        "loss_chen_cls": (1 - method.mu) * entropy / count,
        "loss_chen_reg": method.lambda_ * method.nu * bounded / count,
    }


def dicod(step: Step, method: Any) -> dict[str, Any]:
    """Return DICOD's terms (equations 5 to 7, 10 and 11), cropping one box at a time."""
    mean, std = (getattr(step.distiller.data_preprocessor, name) for name in ("mean", "std"))
    teacher = plain_forms.PlainClassifier(step.distiller._teachers["classifier"])
    at = (step.assignment >= 0).nonzero(as_tuple=True)
    truth = torch.stack([step.boxes[i][step.assignment[i, n]] for i, n in zip(*at, strict=True)])
    student_boxes = decoded(step, step.student.codes[at], at[1])
    predicted, real = (
        plain_forms.crops(step.inputs, at[0], boxes, method.crop_size)
        for boxes in (student_boxes, truth)
    )
    classifier_inputs = [
        (crops * std + mean - teacher.teacher.mean[:, None, None])
        / teacher.teacher.std[:, None, None]
        for crops in (predicted, real)
    ]
    with torch.no_grad():
        logits = teacher.logits(classifier_inputs[1])
        stages = [teacher.stages(crops, 0)[0] for crops in classifier_inputs]
    teacher_logits = logits / method.temperature
    student_logits = step.student.logits[at] / method.temperature
    divergence = sigmoid_kl(teacher_logits, student_logits).mean(1) * method.temperature**2
    unit = std if getattr(method, "pixel_unit", "normalized") == "gray_level" else 1
    predicted, real = predicted * unit, real * unit
    distances = [
        (F.adaptive_avg_pool2d(first, cells) - F.adaptive_avg_pool2d(second, cells)).abs().mean()
        for (first, second), cells in zip(((predicted, real), stages), (4, 8), strict=True)
    ]
    return {
        "loss_dicod_cls": method.lambda_kc * divergence.mean(),
        "loss_dicod_loc": method.lambda_l * distances[0],
        "loss_dicod_kd_loc": method.lambda_kl * distances[1],
    }


FORMULAS = {
    "rm": rank_mimicking,
    "pfi": prediction_guided,
    "fitnets": fitnets,
    "soft_labels": soft_labels,
    "fgfi": fine_grained,
    "fkd": feature_distillation,
    "gid": general_instance,
    "chen": chen,
    "dicod": dicod,
}
