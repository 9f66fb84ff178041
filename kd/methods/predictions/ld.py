"""LD, localization distillation: distributions of box sides (Zheng et al., CVPR 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.boxes import iou_and_diou
from kd.methods.ops.divergences import side_divergence
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kd.observers import Batch
    from kd.observers.dense import DistributionObservation
else:
    torch = LazyModule("torch")


class LocalizationDistillation(Method):
    """The distributions of box sides, at positive priors and in a region near objects.

    Loss: at a prior, T^2 times the KL divergence of the student's distribution of a side from the
    teacher's, averaged over the four sides and over the bins of a distribution. The main term sums
    over positive priors, weighted by the student's highest class probability. The second term sums
    over the valuable localization region, weighted by IoU: anchors whose distance IoU (DIoU) with
    an object is below ATSS's IoU threshold of that object, but not below gamma times it. The
    weight is the largest IoU with such an object. Both sums are scaled to 2 images.

    Code: the official code (HikariTJU/LD 4287990c), and ``LDHead`` in mmdet 3.3, which has the main
    term. Both sum over the priors of a GPU's images and divide by no count. A GPU has 2 images, and
    3 in the official configuration of students on ResNet-18. The official code has the weight 0.25
    for both terms, but divides the second one by 16 instead of 4. The IoU inside its DIoU is the
    overlap divided by the anchor's area (preset ``ld_released``). It fails on an image without
    objects.

    Here: sums are scaled to ``per_images`` images, so that the loss does not grow with the batch.
    An image without objects has no region, and neither ignored priors nor those outside an image's
    padding belong to one. The class term of the paper's full method is another term, preset
    ``soft_labels_ld``: its name in a study is ``soft_labels_ld+ld``.

    Unknown: the paper's text was not at hand. The rule of the region and all values are those of
    the code, except for the definition of DIoU.
    """

    title = "LD"
    cite = "zheng2022localization"
    weights: ClassVar = {
        "loss_ld": "weight",
        "loss_ld_region": "region_weight",
    }

    weight: NonNegativeFloat = 0.25
    """Weight of the main term, at positive priors."""
    region_weight: NonNegativeFloat = 0.0625
    """Weight of the term in the valuable localization region; the code has 0.25 and divides by 16
    instead of 4."""
    temperature: PositiveFloat = 10.0
    """T, which divides the logits of both models. The divergence is multiplied by T^2."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Lowest DIoU in the region, as a share of the threshold; from 1 on, no region would be left.
    """
    overlap: Literal["union", "box"] = "union"
    """Divisor of the overlap in DIoU: the union of anchor and object, or the anchor's area."""
    nearest: PositiveInt = 9
    """Anchors nearest to an object's center, on each level, whose IoUs set the threshold: their
    mean plus their standard deviation, as in ATSS."""
    per_images: PositiveInt = 2
    """Number of images that sums are scaled to: the published images on a GPU."""

    @property
    def needs(self) -> Needs:
        return Needs(
            both=frozenset({"sides"}), student=frozenset({"class_sigmoids", "priors", "anchors"})
        )

    def losses(
        self,
        student: DistributionObservation,
        teacher: DistributionObservation,
        batch: Batch,
        adapters: nn.ModuleDict,
    ) -> Losses:
        """Return ``loss_ld`` and ``loss_ld_region``, scalars."""
        assert student.assignment is not None
        positive = student.assignment >= 0
        region = self._region(student, batch) if self.region_weight else torch.zeros_like(positive)
        # Both terms share the rows: each search for them waits for the GPU.
        image, prior = (positive | (region > 0)).nonzero(as_tuple=True)
        rows = teacher.sides[image, prior], student.sides[image, prior]
        divergence = side_divergence(*rows, self.temperature) / teacher.sides.shape[-1]
        scale = self.per_images / shared_count(len(batch.samples))
        losses: Losses = {}
        if self.weight:
            score = student.logits[image, prior].detach().amax(1).sigmoid()
            total = (divergence * score * positive[image, prior]).sum()
            losses["loss_ld"] = self.weight * scale * total
        if self.region_weight:
            total = (divergence * region[image, prior]).sum()
            losses["loss_ld_region"] = self.region_weight * scale * total
        return losses

    def focus(
        self, student: DistributionObservation, teacher: DistributionObservation, batch: Batch
    ) -> Focus:
        """Return the weights of the region by level, and the student's boxes at positive priors."""
        assert student.assignment is not None
        (prior,) = (student.assignment[0] >= 0).nonzero(as_tuple=True)
        boxes = student.boxes(prior.new_zeros(len(prior)), prior)
        levels = self._region(student, batch)[0].split([len(p) for p in student.level_priors])
        maps = (
            level.view(*size, -1).amax(-1)
            for level, size in zip(levels, student.sizes, strict=True)
        )
        return Focus(
            by_stride(student.strides, maps),
            {"positive boxes": boxes},
            quantity="weight in the region (VLR)",
        )

    def _region(self, student: DistributionObservation, batch: Batch) -> Tensor:
        """Return the weight (B, N) of each prior in the valuable localization region."""
        assert student.sampled is not None
        return torch.stack(
            [
                valuable_region(student.level_priors, boxes, valid, self)
                for boxes, valid in zip(batch.gt_boxes, student.sampled, strict=True)
            ]
        )


def valuable_region(
    level_anchors: list[Tensor],
    boxes: Tensor,
    valid: Tensor,
    settings: LocalizationDistillation,
) -> Tensor:
    """Return the weight (N,) of each anchor of an image in the region, 0 outside.

    ``level_anchors``: by level (N_l, 4), ``boxes``: (G, 4), both xyxy in pixels; ``valid``: (N,),
    true for anchors that take part. An anchor is in the region of an object if gamma t <= DIoU < t
    holds for the object's threshold t. Its weight is its IoU with the object, and the largest one
    in the regions of several objects.
    """
    if not len(boxes):
        return boxes.new_zeros(len(valid))
    iou, diou = iou_and_diou(torch.cat(level_anchors), boxes, settings.overlap)
    threshold = atss_threshold(level_anchors, boxes, iou, valid, settings.nearest)
    inside = (diou < threshold) & (diou >= settings.gamma * threshold) & valid[:, None]
    return iou.where(inside, 0).amax(1)


def atss_threshold(
    level_anchors: list[Tensor], boxes: Tensor, iou: Tensor, valid: Tensor, nearest: int
) -> Tensor:
    """Return the threshold (G,) of IoU at which ATSS assigns an anchor to an object.

    It is the mean plus the standard deviation of the IoUs of the object's candidates, the
    ``nearest`` valid anchors to its center on each level. It is not a number for one candidate.
    Arguments as in ``valuable_region``, and ``iou`` (N, G).
    """
    candidates, existing, first = [], [], 0
    for anchors in level_anchors:
        rows = slice(first, first + len(anchors))
        # The difference of the sums of corners is twice that of the centers, in the same order.
        offset = anchors[:, None, :2] + anchors[:, None, 2:] - boxes[:, :2] - boxes[:, 2:]
        distance = offset.norm(dim=2).masked_fill(~valid[rows, None], torch.inf)
        least, row = distance.topk(min(nearest, len(anchors)), dim=0, largest=False)
        candidates.append(iou[rows].gather(0, row))
        existing.append(least.isfinite())
        first += len(anchors)
    ious, exists = torch.cat(candidates), torch.cat(existing)
    count = exists.sum(0)
    mean = ious.where(exists, 0).sum(0) / count
    variance = (ious - mean).square().where(exists, 0).sum(0) / (count - 1)
    return mean + variance.sqrt()
