"""BCKD: binary class maps, and boxes where they differ (Yang et al., ICCV 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.boxes import aligned_giou
from kd.methods.ops.divergences import focused_entropy
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kd.observers import Batch, DenseObservation
else:
    torch = LazyModule("torch")


class BinaryDistillation(Method):
    """Class maps as binary decisions, and boxes where the class probabilities differ.

    Loss: every class at every prior is a binary decision, with the sigmoid of its logit as
    probability p. The class term is |p^T - p^S| times the binary cross-entropy of p^S with p^T,
    summed over classes and priors. The box term is 1 - GIoU of the student's box with the
    teacher's, weighted by a prior's largest |p^T - p^S| and summed over priors; this weight has no
    gradient. The number of positive priors divides both terms. An image without one counts as one.

    Code: the official code (TinyTigerPan/BCKD 121c9aa2). It skips levels without a positive prior
    on a GPU of 2 images (``levels``), and weighs a class that the detection loss ignores at a prior
    by 0. Preset ``bckd_released`` is its form.

    Here: all levels count. The probability is that of the class map alone, without the centerness
    of ATSS and FCOS. Heads with a softmax over classes have no binary decisions. The class outputs
    of YOLOv3 and YOLOX are conditional on an object and untrained at other priors, where most
    differences would be. The planner refuses all of these.

    Unknown: the paper's text was not at hand; all values are those of the code.
    """

    title = "BCKD"
    cite = "yang2023bridging"
    weights: ClassVar = {
        "loss_bckd_cls": "weight",
        "loss_bckd_loc": "box_weight",
    }

    weight: NonNegativeFloat = 1.0
    """Weight of the class term."""
    box_weight: NonNegativeFloat = 4.0
    """Weight of the box term."""
    power: Annotated[float, Field(ge=1)] = 1.0
    """Exponent of |p^T - p^S| in the class term."""
    levels: Literal["all", "positive"] = "all"
    """Levels that count: all, or those with a positive prior in the group of images."""

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"class_maps", "class_sigmoids", "priors"}))

    def losses(
        self,
        student: DenseObservation,
        teacher: DenseObservation,
        batch: Batch,
        adapters: nn.ModuleDict,
    ) -> Losses:
        """Return ``loss_bckd_cls`` and ``loss_bckd_loc``, scalars."""
        assert student.assignment is not None
        count = shared_count((student.assignment >= 0).sum(1).clamp(min=1).sum())
        mask = self._mask(student)
        losses: Losses = {}
        if self.weight:
            levels = mask.split([len(priors) for priors in student.level_priors], 1)
            triples = zip(teacher.class_maps, student.class_maps, levels, strict=True)
            sums = [
                masked_sum(focused_entropy(teacher_map, student_map, self.power), level)
                for teacher_map, student_map, level in triples
            ]
            losses["loss_bckd_cls"] = self.weight * torch.stack(sums).sum() / count
        if self.box_weight:
            teacher_boxes = teacher.prior_boxes.detach().flatten(0, 1)
            distance = 1 - aligned_giou(student.prior_boxes.flatten(0, 1), teacher_boxes)
            gaps = [level.flatten(1) for level in probability_gaps(student, teacher)]
            weights = (torch.cat(gaps, 1) * mask).flatten()
            losses["loss_bckd_loc"] = self.box_weight * (distance * weights).sum() / count
        return losses

    def focus(self, student: DenseObservation, teacher: DenseObservation, batch: Batch) -> Focus:
        """Return the largest difference of probabilities in each cell, by level."""
        gaps = (level[0].amax(-1) for level in probability_gaps(student, teacher))
        return Focus(by_stride(student.strides, gaps), quantity="difference of class probabilities")

    def _mask(self, student: DenseObservation) -> Tensor:
        """Return (B, N): 1 for priors that count, 0 for others."""
        assert student.assignment is not None and student.sampled is not None
        mask = student.sampled
        if self.levels == "positive":
            positive = (student.assignment >= 0).split([len(p) for p in student.level_priors], 1)
            mask = mask & torch.cat([level.any().expand_as(level) for level in positive], 1)
        return mask.to(student.priors.dtype)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Return the sum of values (B, A*K, H, W) at the priors of a level's mask (B, H*W*A)."""
    height, width = values.shape[2:]
    anchors = mask.unflatten(1, (height, width, -1)).permute(0, 3, 1, 2)
    return (values.unflatten(1, (anchors.shape[1], -1)) * anchors[:, :, None]).sum()


def probability_gaps(student: DenseObservation, teacher: DenseObservation) -> list[Tensor]:
    """Return by level (B, H, W, A): the largest |p^T - p^S| of the classes, without gradient."""
    gaps = []
    levels = zip(student.class_maps, teacher.class_maps, student.level_priors, strict=True)
    for student_map, teacher_map, priors in levels:
        gap = (teacher_map.detach().sigmoid() - student_map.detach().sigmoid()).abs()
        anchors = len(priors) // gap[0, 0].numel()
        gaps.append(gap.unflatten(1, (anchors, -1)).amax(2).permute(0, 2, 3, 1))
    return gaps
