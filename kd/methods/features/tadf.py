"""TADF: the teacher's outputs are imitated where they are better (Sun et al., 2020)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import Adaptation, adaptations, adapted, squared_distance
from kd.methods.ops.boxes import aligned_iou
from kd.methods.ops.candidates import classified_correctly, roi_boxes
from kd.methods.ops.masks import map_sizes, weighted_masks
from kd.methods.ops.pyramid import ObjectSides, sides_of
from kd.methods.ops.reduction import mean_over

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kd.observers import Batch, Candidates, Channels
else:
    torch = LazyModule("torch")


class TaskAdaptive(Method):
    """Neck maps under Gaussians, class outputs, and boxes where the teacher's are better.

    Loss: the squared difference of neck maps under a Gaussian mask on each object; the binary
    cross-entropy of class probabilities of shared RoIs; and the difference of encoded boxes of the
    RoIs whose boxes the teacher improves. All weights decay over the training (``decay``).

    Code: helpers in DeFeat's repository (ggjy/DeFeat.pytorch c46a793d). No code is published as a
    whole. The helpers have the Gaussian, the binary cross-entropy and its factor of 10, the choices
    of RoIs and the decay.

    Here: RoIs are those that the student's second stage is trained on. A detector without a second
    stage learns from the neck alone. A cascade is refused, except with ``tadf_neck``.

    Unknown: only the abstract's numbers (Faster R-CNN with a pyramid) are known. The weights of
    neck and boxes, the adaptation, the paper's choice of RoIs and its loss of boxes are not. Each
    is a setting, and its default is our choice.
    """

    title = "TADF"
    cite = "sun2020distilling"
    weights: ClassVar = {
        "loss_tadf_neck": "feature_weight",
        "loss_tadf_cls": "classification_weight",
        "loss_tadf_reg": "regression_weight",
    }

    feature_weight: NonNegativeFloat = 0.01
    """Weight of L_fea: 1 / (2 N_p) times squares summed over channels. Form and weight are those of
    FGFI."""
    classification_weight: NonNegativeFloat = 10.0
    """Weight of the binary cross-entropy of softmax probabilities, averaged over RoIs and classes.
    """
    regression_weight: NonNegativeFloat = 1.0
    """Weight of the distance of encoded boxes, averaged over RoIs and coordinates."""
    sigma_squared: PositiveFloat = 2.0
    """sigma^2 of the Gaussian, in units of the squared half sides of a box."""
    adaptation: Adaptation = "3x3"
    classified: Literal["foreground", "teacher_correct", "all"] = "foreground"
    """RoIs whose class outputs are compared: those with an object, those whose class (or
    background) the teacher ranks first, or all."""
    regression: Literal["l1", "l2", "nearest"] = "l1"
    """Distance of boxes. ``l1``, ``l2``: absolute or squared differences from the teacher;
    ``nearest``: absolute ones from the teacher or the ground truth, whichever is nearer to the
    student's box."""
    level_sides: ObjectSides = "scaled"
    decay: bool = True
    """If true, every term is multiplied by 1 - (t - 1) / t_max in epoch t of t_max."""

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        """Return weights of 0 for the terms of RoIs if the detector has no second stage."""
        return {} if two_stage else {"classification_weight": 0.0, "regression_weight": 0.0}

    @property
    def assigns_levels(self) -> bool:
        return self.feature_weight > 0

    @property
    def needs(self) -> Needs:
        keys = {"neck"} if self.feature_weight else set()
        if self.classification_weight or self.regression_weight:
            keys |= {"candidates", "rois"}
        return Needs(both=frozenset(keys))

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a convolution per level, by ``adaptation``."""
        if not self.feature_weight:
            return {}
        return adaptations(student.neck, teacher.neck, self.adaptation)

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_tadf_neck`` by level, and the scalars ``loss_tadf_cls`` and ``_reg``."""
        rate = decay(batch.progress.epoch, batch.progress.epochs) if self.decay else 1.0
        losses: Losses = {}
        if self.feature_weight:
            scale = rate * self.feature_weight / len(student.neck)
            losses["loss_tadf_neck"] = [
                scale / 2 * mean_over(distance, mask)
                for distance, mask in zip(
                    self._distances(student, teacher, adapters),
                    self._masks(student, batch),
                    strict=True,
                )
            ]
        if self.classification_weight:
            scale = rate * self.classification_weight
            losses["loss_tadf_cls"] = scale * self._classification(student, teacher, batch)
        if self.regression_weight:
            scale = rate * self.regression_weight
            losses["loss_tadf_reg"] = scale * self._regression(student, teacher, batch)
        return losses

    def _distances(self, student: Any, teacher: Any, adapters: nn.ModuleDict) -> list[Tensor]:
        """Return the squared distance of neck maps by level (B, H, W)."""
        return [
            squared_distance(adapted(adapters, level, student_map), teacher.neck[level])
            for level, student_map in enumerate(student.neck)
        ]

    def _masks(self, student: Any, batch: Batch) -> list[Tensor]:
        """Return the Gaussian mask M by level (B, H, W)."""
        weight = partial(gaussian, sigma_squared=self.sigma_squared)
        sizes, sides = map_sizes(student.neck), sides_of(self.level_sides)
        return weighted_masks(batch, student.strides, sizes, weight, sides)

    def _classification(self, student: Any, teacher: Any, batch: Batch) -> Tensor:
        rois = student.candidates
        if self.classified == "foreground":
            rois = rois.positive
        elif self.classified == "teacher_correct":
            logits = teacher.candidate_logits(rois)  # background is the last class
            rois = classified_correctly(rois, logits, batch, background=logits.shape[1] - 1)
        entropy = binary_entropy(teacher.candidate_logits(rois), student.candidate_logits(rois))
        return mean_over(entropy)

    def _regression(self, student: Any, teacher: Any, batch: Batch) -> Tensor:
        rois = improved_rois(student.candidates, teacher, batch)
        teacher_codes, student_codes = (model.candidate_codes(rois) for model in (teacher, student))
        truth = student.candidate_targets(rois)
        return mean_over(box_distance(student_codes, teacher_codes, truth, self.regression))

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the Gaussian masks by level, and the RoIs whose boxes the teacher improves."""
        maps, boxes = {}, {}
        if self.feature_weight:
            maps = by_stride(student.strides, (mask[0] for mask in self._masks(student, batch)))
        if self.regression_weight:
            rois = improved_rois(student.candidates, teacher, batch)
            boxes = {"improved RoIs": roi_boxes(rois[rois.image == 0])}
        return Focus(maps, boxes, quantity="Gaussian mask")


def decay(epoch: int, epochs: int) -> float:
    """Return r(t) = 1 - (t - 1) / t_max for the 0-based epoch t - 1: from 1 to 1 / t_max."""
    return 1 - epoch / epochs


def gaussian(
    row: Tensor, column: Tensor, height: Tensor, width: Tensor, sigma_squared: float
) -> Tensor:
    """Return M = exp(-(dy^2 + dx^2) / sigma^2) at cells of boxes of height x width cells.

    dy = row / (height / 2) - 1, and dx likewise. The center is half the size, not half of the size
    less one, so the mask is not symmetric; M is 1 if the center falls on a cell. This is DeFeat's
    helper. A box of a single cell gets 1, as a box smaller than a cell does there.
    """
    weight_of_row, weight_of_column = (
        torch.exp(-((position / (cells / 2) - 1) ** 2) / sigma_squared)
        for position, cells in ((row, height), (column, width))
    )
    return (weight_of_row * weight_of_column).where((height > 1) | (width > 1), 1)


def binary_entropy(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """Return (P,) -mean_c [p_c log q_c + (1 - p_c) log(1 - q_c)] from logits (P, K).

    p is the teacher's softmax, q the student's, and background is a class like any other.
    The minimum, at q = p, is not 0.
    """
    teacher = teacher_logits.detach().softmax(1)
    log_student = student_logits.log_softmax(1)
    return -(teacher * log_student + (1 - teacher) * _log_complement(student_logits)).mean(1)


def _log_complement(logits: Tensor) -> Tensor:
    """Return log(1 - softmax(logits)), (P, K), without the cancellation near a probability of 1.

    Only a row's highest probability can exceed a half; its complement is the sum of the others.
    """
    highest = torch.zeros_like(logits, dtype=torch.bool)
    highest.scatter_(1, logits.argmax(1, keepdim=True), True)
    # log(sum of the other exponentials) - log(sum of all) is exact where 1 - p would cancel.
    others = logits.masked_fill(highest, -torch.inf).logsumexp(1, keepdim=True)
    rest = torch.log1p(-logits.softmax(1).masked_fill(highest, 0))
    return torch.where(highest, others - logits.logsumexp(1, keepdim=True), rest)


def box_distance(
    student: Tensor, teacher: Tensor, truth: Tensor, kind: Literal["l1", "l2", "nearest"]
) -> Tensor:
    """Return (P,) distances of encoded boxes (P, 4), averaged over coordinates."""
    difference = student - teacher.detach()
    if kind == "l2":
        return difference.square().mean(1)
    distance = difference.abs().mean(1)
    if kind == "nearest":
        distance = torch.minimum(distance, (student - truth).abs().mean(1))
    return distance


def improved_rois(candidates: Candidates, teacher: Any, batch: Batch) -> Candidates:
    """Return the positive RoIs whose object the teacher's box overlaps more than they do."""
    positive = candidates.positive
    truth = positive.truth(batch)
    teacher_iou = aligned_iou(teacher.candidate_boxes(positive), truth)
    return positive[teacher_iou > aligned_iou(roi_boxes(positive), truth)]
