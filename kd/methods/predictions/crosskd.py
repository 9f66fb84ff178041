"""CrossKD: the student's head features in the teacher's head (Wang et al., CVPR 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.boxes import aligned_giou
from kd.methods.ops.divergences import focused_entropy, side_divergence
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kd.observers import Batch
else:
    torch = LazyModule("torch")

DISTRIBUTION_WEIGHT = 4.0
"""Weight of the term of boxes for distributions of sides (GFL) in the paper; 1 for boxes."""


class CrossKD(Method):
    """Class outputs and boxes that the teacher's head computes from the student's head features.

    Loss: the student's features after all but the last of the stacked convolutions of its class
    branch and box branch go through the rest of the teacher's head. The class outputs have the
    quality focal loss with the teacher's probability as the target, |p^T - p^S|^beta BCE, summed
    over classes. Boxes have 1 - GIoU with the teacher's box, and distributions of sides
    (GFL) T^2 times their KL divergence, averaged over the four sides. Both terms are means over all
    priors (equation 3 with S(r) = 1).

    Code: none was read, because the license of its repository excludes commercial use. Equations
    and weights are those of the paper (arXiv 2306.11369), by descriptions of it.

    Here: the student's outputs get no distillation gradient, because its last convolution and its
    predictors are not part of the term. Padding is compared as well. With fewer stacked
    convolutions than ``teacher_layers``, the student's neck maps go through all of the teacher's.
    Both heads must have the same depth and width. Preset ``crosskd_scores`` weighs boxes by the
    teacher's scores and divides both sums by the sum of these scores.

    Unknown: the paper's text was not at hand. Two public descriptions of it agree on equation 3,
    the sum of S(r) D(r) over positions r, divided by the normalization factor |S|, with S(r) = 1 at
    every position. That |S| is then the number of priors (``divisor``) is our reading.
    """

    title = "CrossKD"
    cite = "wang2024crosskd"
    weights: ClassVar = {
        "loss_crosskd_cls": "class_weight",
        "loss_crosskd_box": "box_weight",
    }

    class_weight: NonNegativeFloat = 1.0
    """Weight of the term of class outputs."""
    box_weight: NonNegativeFloat | None = None
    """Weight of the term of boxes. None: 4 for distributions of sides, 1 for boxes (paper)."""
    teacher_layers: NonNegativeInt = 1
    """Number of the teacher's last stacked convolutions that the features go through. 1 of 4 is the
    paper's position i = 3; 0 leaves the predictors alone."""
    beta: PositiveFloat = 1.0
    """Exponent of the quality focal loss."""
    temperature: PositiveFloat = 1.0
    """T, which divides the logits of distributions of sides."""
    region: Literal["all", "scores"] = "all"
    """Weight of a prior in the sum of boxes. ``all``: 1 (the paper's S); ``scores``: the teacher's
    best class probability."""
    divisor: Literal["all", "positive", "scores"] = "all"
    """Divisor of both sums. ``all``: the number of priors; ``positive``: that of the student's
    positive priors; ``scores``: the sum of the teacher's best class probabilities over priors."""

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"towers", "class_sigmoids", "priors"}))

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_crosskd_cls`` and ``loss_crosskd_box``, scalars.

        A term of weight 0 is left out.
        """
        crossed = self._crossed(student, teacher)
        scores = best_scores(teacher)
        count = shared_count(self._count(student, scores))
        losses: Losses = {}
        if self.class_weight:
            sums = [entropy.sum() for entropy in self._entropies(teacher, crossed)]
            losses["loss_crosskd_cls"] = self.class_weight * torch.stack(sums).sum() / count
        if weight := self._box_weight(teacher):
            distances = self._box_distances(teacher, crossed)
            if self.region == "scores":
                distances = distances * scores
            losses["loss_crosskd_box"] = weight * distances.sum() / count
        return losses

    def _crossed(self, student: Any, teacher: Any) -> Any:
        """Return the observation of the student's features after the teacher's last layers."""
        layers = min(self.teacher_layers, len(teacher.head.cls_convs))
        return teacher.crossed(student, layers)

    def _entropies(self, teacher: Any, crossed: Any) -> list[Tensor]:
        """Return by level the quality focal loss of each class output, (B, A*K, H, W)."""
        return [
            focused_entropy(teacher_map, student_map, self.beta)
            for teacher_map, student_map in zip(teacher.class_maps, crossed.class_maps, strict=True)
        ]

    def _count(self, student: Any, scores: Tensor) -> float | Tensor:
        if self.divisor == "scores":
            return scores.sum()
        if self.divisor == "positive":
            return (student.assignment >= 0).sum()
        return scores.numel()

    def _box_weight(self, teacher: Any) -> float:
        if self.box_weight is not None:
            return self.box_weight
        return DISTRIBUTION_WEIGHT if hasattr(teacher, "sides") else 1.0

    def _box_distances(self, teacher: Any, crossed: Any) -> Tensor:
        """Return (B, N): the divergence of the sides, or 1 - GIoU of the boxes, of every prior."""
        if hasattr(teacher, "sides"):
            rows = teacher.sides.flatten(0, 1), crossed.sides.flatten(0, 1)
            return side_divergence(*rows, self.temperature).unflatten(0, teacher.sides.shape[:2])
        boxes = (observation.prior_boxes for observation in (crossed, teacher))
        student_boxes, teacher_boxes = (both.flatten(0, 1) for both in boxes)
        overlap = aligned_giou(student_boxes, teacher_boxes.detach())
        return (1 - overlap).unflatten(0, teacher.prior_boxes.shape[:2])

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the sum of the class term over the classes and priors of each cell, by level."""
        entropies = self._entropies(teacher, self._crossed(student, teacher))
        maps = [entropy[0].sum(0) for entropy in entropies]
        return Focus(by_stride(student.strides, maps), quantity="quality focal loss")


def best_scores(observation: Any) -> Tensor:
    """Return (B, N): the highest class probability of each prior, without a gradient."""
    classes = observation.head.cls_out_channels
    # Only the maximum is reordered from maps to priors: all class logits would be a large copy.
    levels = [
        maps.detach().unflatten(1, (-1, classes)).amax(2).sigmoid()
        for maps in observation.class_maps
    ]
    return torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in levels], 1)
