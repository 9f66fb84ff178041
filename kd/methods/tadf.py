"""TADF: learn from the teacher where it is the better model (Sun et al., 2020)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.adapters import Adaptation, adaptations, adapted, mean_over, squared_distance
from kd.methods.ops.boxes import aligned_iou
from kd.methods.ops.masks import map_sizes, weighted_masks
from kd.methods.ops.pyramid import LevelSides, sides_of
from kd.methods.ops.reduction import shared_count
from kd.methods.soft_labels import labels_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kd.observers import Batch, Candidates, Channels
else:
    torch = LazyModule("torch")


class TaskAdaptive(Method):
    """Neck maps under Gaussian masks, class outputs and box outputs of shared regions, all decayed.

    There is no official code, and only the abstract's numbers (Faster R-CNN with a pyramid) are
    known. Helpers in ggjy/DeFeat.pytorch (c46a793d) give the Gaussian, the entropy and its factor
    of 10, the choices of regions and the decay. Not known, hence settings whose defaults are our
    choice: the weights of neck and boxes, the adaptation, the paper's choice of regions, its loss
    of boxes. The regions are those that the student's second stage is trained on. A detector
    without one learns from the neck alone; a cascade is refused, and takes ``tadf_neck``.
    """

    title = "TADF"
    weights: ClassVar = {
        "loss_tadf_neck": "feature_weight",
        "loss_tadf_cls": "classification_weight",
        "loss_tadf_reg": "regression_weight",
    }

    feature_weight: NonNegativeFloat = 0.01
    """Of L_fea, 1 / (2 N_p) of squares summed over channels as in FGFI, whose weight it is."""
    classification_weight: NonNegativeFloat = 10.0
    """Of the binary cross-entropy of softmax probabilities, averaged over regions and classes."""
    regression_weight: NonNegativeFloat = 1.0
    """Of the distance of encoded boxes, averaged over regions and coordinates."""
    sigma_squared: PositiveFloat = 2.0
    """Of the Gaussian, in units of the squared half sides of a box."""
    adaptation: Adaptation = "3x3"
    """Of the student's maps."""
    classified: Literal["foreground", "teacher_correct", "all"] = "foreground"
    """Regions with an object, those whose class (or background) the teacher ranks first, or all."""
    regression: Literal["l1", "l2", "nearest"] = "l1"
    """Absolute or squared differences from the teacher, or the absolute ones from teacher or ground
    truth, whichever is nearer to the student's box."""
    level_sides: LevelSides = "scaled"
    """Sides of a square object, in pixels, at which the second level begins, the third, and so on.
    ``published``: 112 and its doubles, DeFeat's 56 for images of 800 px. ``scaled``: these by the
    image size, in whole octaves, which is ``published`` at the papers' scale; SSD's are those that
    its anchors state (``kd.methods.ops.pyramid``)."""
    decay: bool = True
    """Whether every term is multiplied by 1 - (t - 1) / t_max in epoch t of t_max."""

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        """Return no weight for regions where there are none."""
        return {} if two_stage else {"classification_weight": 0.0, "regression_weight": 0.0}

    @property
    def assigns_levels(self) -> bool:
        return self.feature_weight > 0

    @property
    def needs(self) -> Needs:
        regions = self.classification_weight or self.regression_weight
        read = {"neck"} if self.feature_weight else set()
        return Needs(both=frozenset(read | ({"candidates", "rois"} if regions else set())))

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a convolution per level, as ``adaptation`` says."""
        if not self.feature_weight:
            return {}
        return adaptations(student.neck, teacher.neck, self.adaptation)

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_tadf_neck`` by level, ``loss_tadf_cls`` and ``loss_tadf_reg``, scalars."""
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
        return [
            squared_distance(adapted(adapters, level, maps), teacher.neck[level])
            for level, maps in enumerate(student.neck)
        ]

    def _masks(self, student: Any, batch: Batch) -> list[Tensor]:
        """Return M by level (B, H, W)."""
        weight = partial(gaussian, sigma_squared=self.sigma_squared)
        sizes, sides = map_sizes(student.neck), sides_of(self.level_sides)
        return weighted_masks(batch, student.strides, sizes, weight, sides)

    def _classification(self, student: Any, teacher: Any, batch: Batch) -> Tensor:
        chosen = student.candidates
        if self.classified == "foreground":
            chosen = chosen.positive
        elif self.classified == "teacher_correct":
            wanted = teacher.candidate_logits(chosen)
            chosen = chosen[wanted.argmax(1) == labels_of(chosen, batch, wanted.shape[1] - 1)]
        wanted, found = (model.candidate_logits(chosen) for model in (teacher, student))
        return binary_entropy(wanted, found).sum() / shared_count(len(found))

    def _regression(self, student: Any, teacher: Any, batch: Batch) -> Tensor:
        taught = taught_regions(student.candidates, teacher, batch)
        wanted, found = (model.candidate_codes(taught) for model in (teacher, student))
        truth = student.candidate_targets(taught)
        each = box_distance(found, wanted, truth, self.regression)
        return each.sum() / shared_count(len(each))

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the Gaussian masks by level, and the regions whose boxes the teacher improves."""
        maps, boxes = {}, {}
        if self.feature_weight:
            names = (f"stride {stride}" for stride in student.strides)
            masks = (mask[0] for mask in self._masks(student, batch))
            maps = dict(zip(names, masks, strict=True))
        if self.regression_weight:
            taught = taught_regions(student.candidates, teacher, batch)
            boxes = {"taught": regions(taught[taught.image == 0])}
        return Focus(maps, boxes)


def decay(epoch: int, epochs: int) -> float:
    """Return r(t) = 1 - (t - 1) / t_max for the 0-based epoch t - 1: from 1 to 1 / t_max."""
    return 1 - epoch / epochs


def gaussian(
    row: Tensor, column: Tensor, height: Tensor, width: Tensor, sigma_squared: float
) -> Tensor:
    """Return M at rows and columns of boxes of so many cells, 1 where a centre lands on a cell.

    The centre is half the size, not half of the size less one, so the mask is not symmetric:
    DeFeat's helper. A box of a single cell gets 1, as one smaller than a cell does there.
    """
    along, across = (
        torch.exp(-((place / (cells / 2) - 1) ** 2) / sigma_squared)
        for place, cells in ((row, height), (column, width))
    )
    return (along * across).where((height > 1) | (width > 1), 1)


def binary_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    """Return (P,) the mean over classes of the binary cross-entropy of softmax probabilities.

    ``teacher``, ``student``: (P, K) logits, background a class as any other. Its least value, at
    equal distributions, is not 0.
    """
    wanted = teacher.detach().softmax(1)
    found = student.log_softmax(1)
    return -(wanted * found + (1 - wanted) * _log_complement(student)).mean(1)


def _log_complement(logits: Tensor) -> Tensor:
    """Return log(1 - softmax(logits)), (P, K), without the cancellation near a probability of 1.

    Only a row's highest probability can exceed a half; it is taken as the sum of the others.
    """
    highest = torch.zeros_like(logits, dtype=torch.bool)
    highest.scatter_(1, logits.argmax(1, keepdim=True), True)
    others = logits.masked_fill(highest, -torch.inf).logsumexp(1, keepdim=True)
    rest = torch.log1p(-logits.softmax(1).masked_fill(highest, 0))
    return torch.where(highest, others - logits.logsumexp(1, keepdim=True), rest)


def box_distance(
    student: Tensor, teacher: Tensor, truth: Tensor, kind: Literal["l1", "l2", "nearest"]
) -> Tensor:
    """Return (P,) distances of encoded boxes (P, 4), averaged over coordinates."""
    gap = student - teacher.detach()
    if kind == "l2":
        return gap.square().mean(1)
    distance = gap.abs().mean(1)
    if kind == "nearest":
        distance = torch.minimum(distance, (student - truth).abs().mean(1))
    return distance


def taught_regions(candidates: Candidates, teacher: Any, batch: Batch) -> Candidates:
    """Return the positive regions whose object the teacher's box fits better than they do."""
    positive = candidates.positive
    truth = positive.truth(batch)
    reached = aligned_iou(teacher.candidate_boxes(positive), truth)
    return positive[reached > aligned_iou(regions(positive), truth)]


def regions(candidates: Candidates) -> Tensor:
    """Return the boxes (P, 4) that are candidates of a second stage, xyxy in pixels."""
    assert candidates.rois is not None
    return candidates.rois[candidates.index, 1:]
