"""RM, rank mimicking: the order of an object's positive priors (Li et al., AAAI 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.boxes import aligned_iou
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kd.observers import Batch, DenseObservation
else:
    torch = LazyModule("torch")


class RankMimicking(Method):
    """The order of an object's positive priors, by class score and by IoU.

    Loss: for each object, a softmax over its positive priors turns their scores into a
    distribution. The loss is the KL divergence of the student's distribution from the teacher's,
    averaged over objects (equations 5 and 6). The terms of the classification rank and the
    localization rank (the IoU of the predicted box with its object) are added (Table 4).

    Code: an unofficial draft (mmrazor commit 4a47267d). There is no official code. The draft ranks
    logits. It averages objects within an image and then over images, has no localization rank, and
    fails on an image without objects. Its later versions sort the scores first.

    Here: the weight is the paper's alpha, which is meant to bring the loss to the scale of the
    detection loss. The mean is over every object of the batch; an object without a positive prior
    adds zero. The score is that of the class output alone: the sigmoid of FCOS and ATSS without
    centerness, GFL's joint quality, and on SSD, which the paper does not have, the softmax.

    Unknown: whether scores are probabilities or logits. With probabilities (preset ``rm_score``,
    closest to the paper's text) the loss stays far below the scale of detection, so the default is
    logits, by the rule in docs/reference/methods.md (``score``). It is not stated how both ranks
    add up; here it is the sum.
    """

    title = "RM"
    cite = "li2022knowledge"
    weights: ClassVar = {
        "loss_rm_cls": "weight",
        "loss_rm_loc": "weight",
    }

    weight: NonNegativeFloat = 4.0
    """alpha, the weight of each rank's term."""
    classification: bool = True
    """If true, compare the ranks of classification scores."""
    localisation: bool = True
    """If true, compare the ranks of the IoUs of predicted boxes with their object."""
    score: Literal["probability", "logit"] = "logit"
    """Output of the target class that enters the softmax over priors."""

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"rankings"}))

    def losses(
        self,
        student: DenseObservation,
        teacher: DenseObservation,
        batch: Batch,
        adapters: nn.ModuleDict,
    ) -> Losses:
        """Return ``loss_rm_cls`` and ``loss_rm_loc``, scalars."""
        assert student.assignment is not None
        # Both models are compared at the positive priors of the student's label assignment.
        image, prior = (student.assignment >= 0).nonzero(as_tuple=True)
        instance = batch.gt_offsets[image] + student.assignment[image, prior]
        instances = sum(map(len, batch.gt_labels))
        losses: Losses = {}
        if self.classification:
            label = torch.cat(batch.gt_labels)[instance]
            teacher_scores, student_scores = (
                self._class_scores(model, image, prior, label) for model in (teacher, student)
            )
            losses["loss_rm_cls"] = self.weight * rank_divergence(
                teacher_scores, student_scores, instance, instances
            )
        if self.localisation:
            truth = torch.cat(batch.gt_boxes)[instance]
            teacher_ious, student_ious = (
                aligned_iou(model.boxes(image, prior), truth) for model in (teacher, student)
            )
            losses["loss_rm_loc"] = self.weight * rank_divergence(
                teacher_ious, student_ious, instance, instances
            )
        return losses

    def focus(self, student: DenseObservation, teacher: DenseObservation, batch: Batch) -> Focus:
        """Return the student's boxes at the ranked priors."""
        assert student.assignment is not None
        (prior,) = (student.assignment[0] >= 0).nonzero(as_tuple=True)
        return Focus(boxes={"ranked boxes": student.boxes(prior.new_zeros(len(prior)), prior)})

    def _class_scores(
        self, model: DenseObservation, image: Tensor, prior: Tensor, label: Tensor
    ) -> Tensor:
        """Return the score (P,) of each prior's target class."""
        # A sigmoid or softmax of these rows alone is faster than one of every prior.
        scores = model.logits[image, prior]
        if self.score == "probability":
            scores = scores.softmax(1) if model.softmax else scores.sigmoid()
        return scores.gather(1, label[:, None])[:, 0]


def rank_divergence(teacher: Tensor, student: Tensor, instance: Tensor, instances: int) -> Tensor:
    """Return the mean over instances of KL(p^T || p^S), p a softmax over an instance's priors.

    ``teacher``, ``student``: (P,) scores of positive priors; ``instance``: (P,) the index, below
    ``instances``, of the object that each belongs to. Equation 6; 0 without positive priors.
    """
    log_teacher = _log_softmax(teacher.detach(), instance, instances)
    log_student = _log_softmax(student, instance, instances)
    return (log_teacher.exp() * (log_teacher - log_student)).sum() / shared_count(instances)


def _log_softmax(scores: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return the logarithm of the softmax of (P,) scores within each group."""
    # The maximum is subtracted first, so that no exponential overflows.
    highest = scores.new_zeros(groups).scatter_reduce(
        0, group, scores.detach(), "amax", include_self=False
    )
    shifted = scores - highest[group]
    total = scores.new_zeros(groups).index_add(0, group, shifted.exp())
    return shifted - total[group].log()
